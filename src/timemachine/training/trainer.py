"""Settings -> Lightning's Trainer with its callbacks and loggers: metrics.csv and steps.csv, W&B, TensorBoard."""

import atexit
import dataclasses
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.loggers import Logger

from timemachine.config import Train, Trainer, Wandb, WandbMode, format_value, to_dict
from timemachine.errors import SettingError, UserError, one_line
from timemachine.kernels import keep_freed_memory
from timemachine.runs.checkpoint import Checkpoints, WholeCheckpoints
from timemachine.runs.processes import Signalled
from timemachine.runs.record import Record, outcome
from timemachine.runs.rows import final_numbers
from timemachine.training.callbacks import EpochWeights, OrderlyEnd, TrainingStart
from timemachine.training.lightning import PerplexityBar, Unprofiled, end_each_epoch_once, silence
from timemachine.training.tables import EpochTable, StepTable


def build_trainer(settings: Train, run: Record, others: Sequence[Logger | Callback] = ()) -> pl.Trainer:
    """Return the Trainer of a run. `others`: loggers and callbacks beside those that each run has.

    Raises SettingError for what Lightning refuses.
    """
    silence()
    keep_freed_memory()
    chosen = dataclasses.asdict(settings.trainer)
    ours = {"auto": "cuda" if torch.cuda.is_available() else "cpu", "gpu": "cuda"}  # to Lightning they may be Apple's
    chosen["accelerator"] = ours.get(chosen["accelerator"], chosen["accelerator"])
    if chosen["accelerator"] == "cpu" and str(chosen["precision"]) in ("16", "16-mixed"):
        rule = "Lightning computes bf16-mixed instead on the CPU"
        raise SettingError(f"trainer.precision={chosen['precision']}: {rule}; type trainer.precision=bf16-mixed")
    own: list[Callback] = []
    if settings.callbacks:
        from timemachine.training.own import FinalWeights, blamed, build_own  # a plain run has none

        own = build_own(settings, "callbacks", str(run.folder))
        own = [*own, FinalWeights(run, own)]
    has_bar = any(isinstance(callback, ProgressBar) for callback in own)
    draws_bar = sys.stdout.isatty() if chosen["enable_progress_bar"] is None else chosen["enable_progress_bar"]
    draws_bar = draws_bar and not (run.quiet or settings.trainer.barebones or has_bar)
    chosen["enable_progress_bar"] = draws_bar or has_bar
    if not settings.trainer.barebones:
        chosen["profiler"] = chosen["profiler"] or Unprofiled()
    plugins = chosen["plugins"] or []
    chosen["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), WholeCheckpoints()]
    loggers, callbacks = _lists(settings, run, others, own, draws_bar)
    if any(isinstance(callback, EpochTable) for callback in callbacks):
        chosen["enable_checkpointing"] = True  # Lightning refuses a Checkpoint, such as EpochTable, without it
    try:
        trainer = pl.Trainer(**chosen, logger=loggers or False, callbacks=callbacks, default_root_dir=run.folder)
    except Exception as error:  # an OverflowError, an AttributeError, whatever comes of what was typed
        if own and (reason := blamed(settings, error)):
            raise SettingError(reason) from error
        raise _refused(settings, error) from error
    if settings.trainer.profiler:
        trainer.profiler.dirpath, trainer.profiler.filename = run.folder, "profile"  # type: ignore[attr-defined]
    # Slurm, torchrun and the like have an environment of their own; who starts each process by hand says which it is.
    environment = getattr(trainer.strategy, "cluster_environment", None)
    by_hand = os.environ.keys() & {"NODE_RANK", "GROUP_RANK", "LOCAL_RANK"}
    if trainer.num_nodes > 1 and isinstance(environment, LightningEnvironment) and not by_hand:
        rule = "it waits for a process on each machine, and nothing here starts them"
        instead = "srun python train.py trainer=ddp_nodes … in a job of Slurm, or torchrun instead of python"
        raise SettingError(f"trainer.num_nodes={trainer.num_nodes}: {rule}; type {instead}, or trainer.num_nodes=1")
    end_each_epoch_once(trainer)
    if trainer.world_size > 1:
        atexit.register(_leave_process_group)
    return trainer


def _lists(
    settings: Train, run: Record, others: Sequence[Logger | Callback], own: list[Callback], draws_bar: bool
) -> tuple[list[Logger], list[Callback]]:
    """Return the run's loggers and its callbacks, in the order in which they are called."""
    if settings.trainer.barebones or settings.trainer.fast_dev_run:  # Lightning's own ways to keep nothing
        return [], own
    steps = StepTable(run.folder)
    epochs = EpochTable(run.folder, steps, prints_lines=run.writes and not (draws_bar or run.quiet))
    callbacks: list[Callback] = [TrainingStart(run)]
    callbacks += [other for other in others if isinstance(other, Callback)]
    callbacks += [*own, steps]  # after those that log as a batch ends
    if run.is_single and run.writes:
        callbacks.append(EpochWeights(run.folder))
    callbacks += [PerplexityBar(), OrderlyEnd()] if draws_bar else [OrderlyEnd()]
    callbacks.append(epochs)  # before the checkpoint from which a run is resumed
    if settings.trainer.enable_checkpointing is not False:
        callbacks.append(Checkpoints(run))
    return [other for other in others if isinstance(other, Logger)], callbacks


def changed_at_end(trainer: pl.Trainer) -> bool:
    """Return whether a callback has left other weights at the end than were validated."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return any(getattr(callback, "weights_are_new", False) for callback in callbacks)


@contextmanager
def open_loggers(settings: Train, run: Record) -> Iterator[list[Any]]:
    """Give the loggers of a run, which know its settings. At the end W&B gets what the record says, or the exception.

    Raises SettingError for one that is not installed.
    """
    choice, loggers = settings.logger.get("wandb"), list[Any]()
    if any(not isinstance(entry, Wandb) for entry in settings.logger.values()):
        from timemachine.training.own import build_own

        loggers += build_own(settings, "logger", str(run.folder))
    for logger in loggers:
        logger.log_hyperparams(to_dict(settings))
    wandb_run = None
    if isinstance(choice, Wandb) and choice.mode is not WandbMode.disabled and run.writes:
        from timemachine.weights_and_biases.run import WandbRun  # it imports wandb, which takes time

        wandb_run = WandbRun.begin(choice, run)
    try:
        yield [*loggers, wandb_run] if wandb_run else loggers
    except BaseException as error:
        with suppress(OSError):  # a full disk: the error that ends the run names it
            run.update(metrics=final_numbers(run.folder))
            if wandb_run:
                wandb_run.end(run, *outcome(error))
        raise
    if wandb_run:
        wandb_run.end(run, run.summary["status"], run.summary["message"])


def _leave_process_group() -> None:
    """Leave it before the interpreter ends: Gloo's threads may still hold tensors, and that aborts the process."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def lightning_may_refuse(settings: Train, trainer: pl.Trainer) -> Iterator[None]:
    """Make one line of a setting that Lightning, or a callback of its own, refuses, and of a process that has gone.

    Any other error passes, such as a mistake in a callback. Raises SettingError or UserError; KeyboardInterrupt, of
    which Lightning makes an exit.
    """
    try:
        yield
    except Signalled:
        raise
    except SystemExit as error:
        raise KeyboardInterrupt from error
    except Exception as error:
        modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
        raised_in = modules[2:]  # after this function and the one that calls Lightning
        if raised_in and raised_in[-1].startswith("torch.distributed"):
            what = f"another process of the run has gone ({one_line(error, 100)})"
            raise UserError(f"{what}; type resume=<the run's folder>") from error
        is_lightnings = all(name.split(".")[0] == "lightning" for name in raised_in)
        if settings.callbacks:
            from timemachine.training.own import blamed

            if reason := blamed(settings, error):
                raise (UserError if trainer.global_step else SettingError)(reason) from error
        names_setting = any(re.search(rf"\b{field.name}\b", str(error)) for field in dataclasses.fields(Trainer))
        if isinstance(error, MisconfigurationException | ValueError) and is_lightnings and names_setting:
            raise _refused(settings, error) from error
        raise


def _refused(settings: Train, error: Exception) -> SettingError:
    """Return what to say of a setting that Lightning refuses: one that its message names, or all that were typed."""
    message, default = one_line(error), dataclasses.asdict(Trainer())
    given = {name: value for name, value in dataclasses.asdict(settings.trainer).items() if value != default[name]}
    named = [name for name in given if name in message.lower()]
    typed = [name for name in given if any(argument.startswith(f"trainer.{name}=") for argument in sys.argv)]
    culprits = " ".join(f"trainer.{name}={format_value(given[name])}" for name in named or typed or given)
    return SettingError(f"{culprits}: Lightning refuses it: {message} Type another value, or none.")

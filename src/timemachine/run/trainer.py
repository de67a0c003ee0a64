"""Settings -> Lightning's Trainer, with the callbacks and loggers of the run in their order."""

import atexit
import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.loggers import Logger

from timemachine import kernels
from timemachine.config import Train, to_dict
from timemachine.errors import SettingError, UserError, one_line
from timemachine.kernels import fused, keep_freed_memory
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.perplexity import BitsPerByte
from timemachine.run.checkpoint import Checkpoints, WholeCheckpoints
from timemachine.run.lightning import Interruptible, PerplexityBar, Unprofiled, end_each_epoch_once, silence
from timemachine.run.record import Record
from timemachine.run.rows import final_numbers
from timemachine.run.tables import Tables


def build_trainer(
    settings: Train, run: Record, configured: Sequence[Logger | Callback] = (), others: Sequence[Callback] = ()
) -> pl.Trainer:
    """Return the Trainer of a run. `configured`: from `open_loggers`. `others`: further callbacks.

    Raises SettingError for an argument that Lightning rejects.
    """
    silence()
    keep_freed_memory()
    chosen = dataclasses.asdict(settings.trainer)
    ours = {"auto": "cuda" if torch.cuda.is_available() else "cpu", "gpu": "cuda"}  # Lightning might choose Apple's GPU
    chosen["accelerator"] = ours.get(chosen["accelerator"], chosen["accelerator"])
    if chosen["accelerator"] == "cpu" and str(chosen["precision"]) in ("16", "16-mixed"):
        rule = "Lightning computes bf16-mixed instead on the CPU"
        raise SettingError(f"trainer.precision={chosen['precision']}: {rule}; use trainer.precision=bf16-mixed")
    has_bar = any(isinstance(callback, ProgressBar) for callback in configured)
    draws_bar = sys.stdout.isatty() if chosen["enable_progress_bar"] is None else chosen["enable_progress_bar"]
    draws_bar = draws_bar and run.role.prints and not (settings.trainer.barebones or has_bar)
    chosen["enable_progress_bar"] = draws_bar or has_bar  # false would let Lightning reject a bar among the callbacks
    if not settings.trainer.barebones:  # with which Lightning rejects any profiler
        chosen["profiler"] = chosen["profiler"] or Unprofiled()
    plugins = chosen["plugins"] or []
    chosen["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), WholeCheckpoints()]
    loggers, callbacks = _loggers_and_callbacks(settings, run, configured, others, draws_bar)
    if any(isinstance(callback, Tables) for callback in callbacks):
        chosen["enable_checkpointing"] = True  # otherwise Lightning rejects Tables, which is a `Checkpoint`
    try:
        # False if there are no loggers: with None, Lightning opens a default one.
        trainer = pl.Trainer(**chosen, logger=loggers or False, callbacks=callbacks, default_root_dir=run.folder)
    except Exception as error:  # Lightning raises many types, among them OverflowError and AttributeError
        typed = [override for override in run.typed if override.lstrip("+").startswith("trainer")]
        raise SettingError(f"{' '.join(typed) or 'trainer'}: Lightning: {one_line(error)}") from error
    if settings.trainer.profiler:
        trainer.profiler.dirpath, trainer.profiler.filename = run.folder, "profile"  # type: ignore[attr-defined]
    # Under Slurm or torchrun, Lightning uses another environment. Otherwise the user sets these variables per process.
    environment = getattr(trainer.strategy, "cluster_environment", None)
    by_hand = os.environ.keys() & {"NODE_RANK", "GROUP_RANK", "LOCAL_RANK"}
    if trainer.num_nodes > 1 and isinstance(environment, LightningEnvironment) and not by_hand:
        rule = "Lightning would wait for a process on each machine, but no launcher starts them"
        instead = "srun python train.py trainer=ddp_nodes … in a Slurm job, or torchrun instead of python"
        raise SettingError(f"trainer.num_nodes={trainer.num_nodes}: {rule}; use {instead}, or trainer.num_nodes=1")
    end_each_epoch_once(trainer)
    if trainer.world_size > 1:
        atexit.register(_leave_process_group)
    return trainer


def _loggers_and_callbacks(
    settings: Train, run: Record, configured: Sequence[Logger | Callback], others: Sequence[Callback], draws_bar: bool
) -> tuple[list[Logger], list[Callback]]:
    """Return the run's loggers, and its callbacks in the order in which Lightning calls them."""
    if settings.trainer.barebones or settings.trainer.fast_dev_run:  # in these modes Lightning keeps no results
        return [], [callback for callback in configured if not isinstance(callback, Logger)]
    callbacks: list[Callback] = [TrainingStart(run), BitsPerByte(), *others]
    callbacks += [callback for callback in configured if isinstance(callback, Callback)]  # W&B's logger is both
    callbacks += [PerplexityBar(), Interruptible()] if draws_bar else [Interruptible()]
    # After the callbacks that log at the end of a batch, and before the checkpoint from which a run is resumed.
    callbacks.append(Tables(run.folder, run.role.prints * (10 if draws_bar else 1)))  # fewer lines above a bar
    if settings.trainer.enable_checkpointing is not False:
        callbacks.append(Checkpoints(run))
    return [logger for logger in configured if isinstance(logger, Logger)], callbacks


@contextmanager
def open_loggers(settings: Train, run: Record) -> Iterator[list[Any]]:
    """Yield the loggers and callbacks that the settings name; on exit, exit the loggers that are context managers.

    Loggers get the settings. Callbacks are built first, so that an invalid callback is rejected before a logger starts
    its run. Raises SettingError for a class that cannot be built.
    """
    found = list[Any]()
    with ExitStack() as stack:
        if settings.logger or settings.callbacks:
            from timemachine.run.user_classes import build_classes  # not needed by a run with logger=csv

            found += build_classes(settings, "callbacks", run)
            for logger in build_classes(settings, "logger", run):
                if isinstance(logger, AbstractContextManager):
                    stack.enter_context(logger)
                logger.log_hyperparams(to_dict(settings))
                found.append(logger)
        try:
            yield found
        except BaseException:
            with suppress(OSError):  # if the disk is full, the error that ended the run says so already
                run.update(metrics=final_numbers(run.folder))
            raise


class TrainingStart(Callback):
    """Record which code computes the gradients, as `kernel` in summary.json.

    Prints a line if a resumed run uses another kernel than before, and one if compiling would make training faster.
    """

    def __init__(self, run: Record) -> None:
        self.run = run

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ask the model, now that it is on its device, under the precision of the training."""
        with trainer.precision_plugin.forward_context():
            kernel = pl_module.kernel() if isinstance(pl_module, FusedRNNLM) else "autograd"
        if kernel == "fused":
            kernel = f"fused ({fused.instruction_sets()[0]})"
        before, network = self.run.before.get("kernel", kernel), pl_module.hparams
        self.run.update(kernel=kernel)
        if not self.run.role.prints:
            return
        if kernel != before:
            print(f"kernel        {before} when the run began, {kernel} now: the last digits may differ")
        if network["backward"] == "auto" and kernel == "bptt" and pl_module.device.type == "cpu":
            sizes = network["hiddens"], network["vocab_size"], network["activation"]
            if kernels.is_fastest(*sizes) and not kernels.is_compiled():
                print(kernels.NOT_COMPILED)


def _leave_process_group() -> None:
    """Destroy the process group before the interpreter ends: Gloo's threads may hold tensors, which would abort it."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def errors_in_one_line(trainer: pl.Trainer) -> Iterator[None]:
    """Raise UserError for a setting that Lightning rejects, and KeyboardInterrupt where Lightning raises SystemExit.

    Before the first step the error is a SettingError, for which a resumed run keeps its previous summary. Other
    exceptions are not changed.
    """
    try:
        yield
    except SystemExit as error:  # Lightning exits after KeyboardInterrupt
        raise KeyboardInterrupt from error
    except MisconfigurationException as error:
        raise (UserError if trainer.global_step else SettingError)(one_line(error)) from error
    except ValueError as error:  # Lightning's error for an interval above the number of batches
        if "`val_check_interval`" not in str(error):
            raise
        raise SettingError(one_line(error)) from error

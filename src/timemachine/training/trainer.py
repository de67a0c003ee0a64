"""Settings -> Lightning's Trainer with its callbacks. Nothing else builds one."""

import atexit
import dataclasses
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from timemachine.config import Train, Trainer
from timemachine.errors import SettingError, UserError, one_line
from timemachine.evaluation import probes
from timemachine.runs.checkpoints import WholeCheckpoints
from timemachine.training.cell_check import CellCheck
from timemachine.training.lightning import (
    ModelCheckpoint,
    OtherProcesses,
    PerplexityBar,
    Unprofiled,
    end_each_epoch_once,
    leave_signals_to_us,
    shows_bar,
    silence,
)
from timemachine.training.steps import Steps


class RatesOfTheSettings(Callback):
    """A resumed run has the rates of its settings; what its optimiser remembers is the checkpoint's."""

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Replace the optimiser's settings before Lightning restores it."""
        (before,) = checkpoint["optimizer_states"]
        optimizer: Any = pl_module.configure_optimizers()
        checkpoint["optimizer_states"] = [optimizer.state_dict() | {"state": before["state"]}]


def build_trainer(settings: Train, folder: Path, loggers: list[Logger], quiet: bool = False) -> pl.Trainer:
    """Return the Trainer of a run that lives in `folder`, without a progress bar if `quiet`.

    Raises SettingError for what Lightning refuses.
    """
    silence()
    chosen = dataclasses.asdict(settings.trainer)
    chosen["accelerator"] = _accelerator(settings.trainer)
    chosen["enable_progress_bar"] = shows_bar(settings.trainer) and not (quiet or settings.trainer.barebones)
    callbacks: list[Callback] = [CellCheck(), Steps(), RatesOfTheSettings(), OtherProcesses()]
    callbacks += [logger for logger in loggers if isinstance(logger, Callback)]
    callbacks += probes.watchers(settings.probes, folder)
    if chosen["enable_progress_bar"]:
        callbacks.append(PerplexityBar())
    if settings.trainer.enable_checkpointing is not False:
        callbacks += _checkpoints(folder / "checkpoints")
    if settings.trainer.barebones:  # Lightning's own way to measure what all of this costs
        callbacks, loggers = [], []
    else:
        chosen["profiler"] = chosen["profiler"] or Unprofiled()
    plugins = chosen["plugins"] or []
    chosen["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), WholeCheckpoints()]
    with lightning_may_refuse(settings):
        trainer = pl.Trainer(**chosen, logger=loggers or None, callbacks=callbacks, default_root_dir=folder)
    _refuse_machines_without_processes(trainer)
    leave_signals_to_us(trainer)
    end_each_epoch_once(trainer)
    if trainer.world_size > 1:
        atexit.register(_leave_process_group)
    return trainer


def _checkpoints(folder: Path) -> list[Callback]:
    best = ModelCheckpoint(folder, "best", monitor="val/perplexity", mode="min", enable_version_counter=False)
    last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    return [best, last]


def _refuse_machines_without_processes(trainer: pl.Trainer) -> None:
    """Raise SettingError for several machines where nothing has started this process on each: it would wait for them.

    Slurm, torchrun and the like have an environment of their own; whoever starts each process by hand says which it is.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    by_hand = os.environ.keys() & {"NODE_RANK", "GROUP_RANK", "LOCAL_RANK"}
    if trainer.num_nodes > 1 and isinstance(environment, LightningEnvironment) and not by_hand:
        raise SettingError(
            f"trainer.num_nodes={trainer.num_nodes}: it waits for a process on each machine, and nothing here starts "
            "them; type srun python train.py trainer=ddp_nodes … in a job of Slurm, or torchrun instead of python, or "
            "trainer.num_nodes=1"
        )


def _leave_process_group() -> None:
    """Gloo's threads may still hold tensors when the interpreter ends, and that aborts the process."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def lightning_may_refuse(settings: Train) -> Iterator[None]:
    """Make one line, a SettingError, of what Lightning itself refuses; any other error passes."""
    try:
        yield
    except Exception as error:  # an OverflowError, an AttributeError, whatever comes of what was typed
        raised_in = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
        if raised_in[-1].startswith("torch.distributed"):
            reason = one_line(error, 100)
            raise UserError(
                f"another process of the run has gone ({reason}); type resume=<the run's folder>"
            ) from error
        by_lightning = raised_in[-1].startswith("lightning")
        if isinstance(error, OSError) or not (by_lightning or isinstance(error, MisconfigurationException)):
            raise
        message = one_line(error)
        default = Trainer()
        given = [field.name for field in dataclasses.fields(Trainer)]
        given = [name for name in given if getattr(settings.trainer, name) != getattr(default, name)]
        all_given = [f"trainer.{name}={getattr(settings.trainer, name)}" for name in given]
        named = [text for name, text in zip(given, all_given, strict=True) if name in message.lower()]
        typed = [argument for argument in sys.argv[1:] if argument.startswith("trainer")]
        culprits = " ".join(named or typed or all_given)
        raise SettingError(f"{culprits}: Lightning refuses it: {message} Type another value, or none.") from error


def _accelerator(trainer: Trainer) -> str:
    """Lightning's name of the accelerator; `auto` passes over Apple's GPU, which has no float64 for the sums."""
    name = trainer.accelerator
    if name == "mps" or (name == "gpu" and not torch.cuda.is_available() and torch.backends.mps.is_available()):
        raise SettingError(f"trainer.accelerator={name}: Apple's GPU has no float64; type trainer.accelerator=cpu")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    known = sorted({"auto", "gpu"} | (AcceleratorRegistry.keys() - {"mps"}))
    if name not in known:
        raise SettingError(f"trainer.accelerator={name}: unknown; type trainer.accelerator=auto ({', '.join(known)})")
    probe = "cuda" if name == "gpu" else name
    if not AcceleratorRegistry[probe]["accelerator"].is_available():
        raise SettingError(f"trainer.accelerator={name}: this machine has none; type trainer.accelerator=auto (or cpu)")
    return name

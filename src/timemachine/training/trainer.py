"""Settings -> Lightning's Trainer with its callbacks. Nothing else builds one."""

import atexit
import dataclasses
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
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
from lightning.pytorch.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler

from timemachine.config import Train, Trainer, typed
from timemachine.errors import SettingError, UserError, one_line
from timemachine.exercises import probes
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
from timemachine.training.steps import Steps, TakesRows


class Resumption(Callback):
    """What a resumed run lacks from Lightning: weights in the precision of the run, and the rates of its settings.

    Whatever else the optimiser remembers is the checkpoint's.
    """

    def __init__(self) -> None:
        self._are_new, self._rates = False, list[dict[str, float]]()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Convert the weights before Lightning restores them, not after: in between float64 would be cut to float32."""
        trainer.precision_plugin.convert_module(pl_module)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Compare the rate of the settings with that of the checkpoint."""
        self._are_new = checkpoint["hyper_parameters"]["lr"] != pl_module.hparams["lr"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the rates that the optimisers begin with, before Lightning restores them."""
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self._rates = [{name: group[name] for name in ("lr", "initial_lr") if name in group} for group in groups]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put them back, if they are new."""
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        for group, rates in zip(groups, self._rates, strict=True):
            group |= rates if self._are_new else {}


def build_trainer(settings: Train, folder: Path, logs: Sequence[Logger | Callback], quiet: bool = False) -> pl.Trainer:
    """Return the Trainer of a run that lives in `folder`, without a progress bar if `quiet`.

    `logs`: Lightning's loggers, and callbacks that take rows (`TakesRows`). Raises SettingError for what Lightning
    refuses.
    """
    silence()
    chosen = dataclasses.asdict(settings.trainer)
    chosen["accelerator"] = _accelerator(settings.trainer)
    if chosen["accelerator"] == "cpu" and re.fullmatch("16(-mixed)?", str(chosen["precision"])):
        rule = "Lightning computes bf16-mixed instead on the CPU"
        raise SettingError(f"trainer.precision={chosen['precision']}: {rule}; type trainer.precision=bf16-mixed")
    chosen["enable_progress_bar"] = shows_bar(settings.trainer) and not (quiet or settings.trainer.barebones)
    steps = Steps([log for log in logs if isinstance(log, TakesRows)])
    loggers: list[Logger] = [steps, *(log for log in logs if isinstance(log, Logger))]
    callbacks: list[Callback] = [CellCheck(), steps, Resumption(), OtherProcesses()]
    callbacks += [log for log in logs if isinstance(log, Callback)]
    callbacks += probes.callbacks(settings.probes, folder)
    if chosen["enable_progress_bar"]:
        callbacks.append(PerplexityBar())
    if settings.trainer.enable_checkpointing is not False:
        callbacks += _checkpoints(folder / "checkpoints")
    if settings.trainer.barebones or settings.trainer.fast_dev_run:  # Lightning's own ways to keep nothing
        callbacks, loggers = [], []
    if not settings.trainer.barebones:
        chosen["profiler"] = _profiler(settings.trainer.profiler, folder)
    plugins = chosen["plugins"] or []
    chosen["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), WholeCheckpoints()]
    try:
        trainer = pl.Trainer(**chosen, logger=loggers or False, callbacks=callbacks, default_root_dir=folder)
    except Exception as error:  # an OverflowError, an AttributeError, whatever comes of what was typed
        raise _refused(settings, error) from error
    _refuse_machines_without_processes(trainer)
    leave_signals_to_us(trainer)
    end_each_epoch_once(trainer)
    if trainer.world_size > 1:
        atexit.register(_leave_process_group)
    return trainer


def _profiler(name: str | None, folder: Path) -> Profiler | str:
    """Return the profiler of that name, whose report goes into the folder; an unknown name is left to Lightning."""
    kinds: dict[str, type[Profiler]] = {
        "simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler,
    }  # fmt: skip
    if name is None:
        return Unprofiled()
    return kinds[name](dirpath=folder, filename="profile") if name in kinds else name


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
    """Make one line of a setting that Lightning refuses as the fit begins, and of a process that has gone.

    Any other error passes, such as a mistake in a callback. Raises SettingError or UserError.
    """
    try:
        yield
    except Exception as error:
        modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
        raised_in = modules[2:]  # after this function and the one that calls Lightning
        if raised_in and raised_in[-1].startswith("torch.distributed"):
            reason = one_line(error, 100)
            raise UserError(
                f"another process of the run has gone ({reason}); type resume=<the run's folder>"
            ) from error
        is_lightnings = all(name.split(".")[0] == "lightning" for name in raised_in)
        names_setting = any(re.search(rf"\b{field.name}\b", str(error)) for field in dataclasses.fields(Trainer))
        if isinstance(error, MisconfigurationException | ValueError) and is_lightnings and names_setting:
            raise _refused(settings, error) from error
        raise


def _refused(settings: Train, error: Exception) -> SettingError:
    """Return what to say of a setting that Lightning refuses: one that its message names, or all that were typed."""
    message, default = one_line(error), Trainer()
    given = {field.name: getattr(settings.trainer, field.name) for field in dataclasses.fields(Trainer)}
    given = {name: value for name, value in given.items() if value != getattr(default, name)}
    named = [f"trainer.{name}={typed(value)}" for name, value in given.items() if name in message.lower()]
    by_user = [argument for argument in sys.argv[1:] if argument.startswith("trainer")]
    culprits = " ".join(named or by_user or [f"trainer.{name}={typed(value)}" for name, value in given.items()])
    return SettingError(f"{culprits}: Lightning refuses it: {message} Type another value, or none.")


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

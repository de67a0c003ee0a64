"""Settings -> Lightning's Trainer with its callbacks. Nothing else builds one."""

import atexit
import dataclasses
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import RichProgressBarTheme
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

from timemachine.checkpoint import Refused, WholeCheckpoints
from timemachine.config import Probe, SettingError, Train, Trainer, UserError
from timemachine.probes.dynamics import Dynamics
from timemachine.tracking import shows_bar


class PerplexityBar(RichProgressBar):
    """Lightning's progress bar with the two numbers that matter under short names: train and val."""

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Training and validation perplexity of the last epoch."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name: metrics[f"{name}/perplexity"] for name in ("train", "val") if f"{name}/perplexity" in metrics}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the last epoch's training perplexity, which is computed after the bar's own hook."""
        self._update_metrics(trainer, pl_module)
        self.refresh()
        super().on_train_end(trainer, pl_module)

    def _get_train_description(self, current_epoch: int) -> str:
        total = self.trainer.max_epochs or -1
        counted = f"Epoch {current_epoch + 1}" + (f"/{total}" if total > 0 else "")  # Lightning counts from 0
        return counted.ljust(len(self.validation_description))


class OtherProcesses(Callback):
    """Ends the processes that Lightning has started when a signal ends the run: they have nothing to save."""

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Before they fail for want of the first, which Lightning would then kill."""
        launcher = trainer.strategy.launcher
        if isinstance(exception, KeyboardInterrupt | SystemExit) and isinstance(launcher, _SubprocessScriptLauncher):
            launcher.kill(signal.SIGKILL)
            launcher.procs.clear()  # Lightning watches those in the list


class ModelCheckpoint(pl.callbacks.ModelCheckpoint):
    """Lightning's, and under its name, by which a checkpoint knows it; but it takes no path from a checkpoint.

    The folder may have been moved, and Lightning deletes whatever a stranger's path names.
    """

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Raise Refused where the checkpoint does not know the best score."""
        if self.state_key not in checkpoint["callbacks"]:
            raise Refused("has no best score")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The best score so far. The file that it belongs to is the one that is written here."""
        path = self.format_checkpoint_name({})
        if self.monitor is None:
            self.best_model_path = path
        elif state_dict["best_model_score"] is not None:
            score = torch.as_tensor(state_dict["best_model_score"], dtype=torch.float64).reshape(())
            self.best_model_path = self.kth_best_model_path = path
            self.best_model_score = self.kth_value = score
            self.best_k_models = {path: score}


def build_trainer(settings: Train, folder: Path, loggers: list[Logger], quiet: bool = False) -> pl.Trainer:
    """The Trainer of a run that lives in `folder`, without a progress bar if `quiet`.

    Raises SettingError for what Lightning refuses.
    """
    _silence_what_does_not_concern_the_user()
    chosen = dataclasses.asdict(settings.trainer)
    chosen["accelerator"] = _accelerator(settings.trainer)
    chosen["enable_progress_bar"] = shows_bar(settings) and not (quiet or settings.trainer.barebones)
    callbacks: list[Callback] = []
    if settings.trainer.enable_checkpointing is not False:
        callbacks += [_best_checkpoint(folder), _last_checkpoint(folder)]
    callbacks.append(OtherProcesses())
    callbacks += [logger for logger in loggers if isinstance(logger, Callback)]
    if Probe.dynamics in settings.probes:
        callbacks.append(Dynamics(folder))
    if chosen["enable_progress_bar"]:
        callbacks.append(PerplexityBar(theme=RichProgressBarTheme(metrics_format=".3f")))
    if settings.trainer.barebones:  # Lightning's own way to measure what all of this costs
        callbacks, loggers = [], []
    chosen["plugins"] = chosen["plugins"] or [WholeCheckpoints()]
    with lightning_may_refuse(settings):
        trainer = pl.Trainer(**chosen, logger=loggers or None, callbacks=callbacks, default_root_dir=folder)
    # Lightning's handler of SIGTERM waits for the other processes, which may wait for this one; ours do not.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    # With max_steps Lightning takes the last epoch of a run that goes on for one under way, and ends it again.
    trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]
    if trainer.world_size > 1:
        atexit.register(_leave_process_group)
    return trainer


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
            reason = " ".join(str(error).split())[:100]
            raise UserError(
                f"another process of the run has gone ({reason}); type resume=<the run's folder>"
            ) from error
        by_lightning = raised_in[-1].startswith("lightning")
        if isinstance(error, OSError) or not (by_lightning or isinstance(error, MisconfigurationException)):
            raise
        message = " ".join(str(error).split())
        default = Trainer()
        given = [field.name for field in dataclasses.fields(Trainer)]
        given = [name for name in given if getattr(settings.trainer, name) != getattr(default, name)]
        all_given = [f"trainer.{name}={getattr(settings.trainer, name)}" for name in given]
        named = [text for name, text in zip(given, all_given, strict=True) if name in message.lower()]
        typed = [argument for argument in sys.argv[1:] if argument.startswith("trainer")]
        culprits = " ".join(named or typed or all_given)
        raise SettingError(f"{culprits}: Lightning refuses it: {message} Type another value, or none.") from error


@contextmanager
def damage_in_one_line(folder: Path) -> Iterator[None]:
    """Make one line, a SettingError, of whatever is raised while Lightning restores a run from its last checkpoint."""
    try:
        yield
    except Exception as error:  # what a stranger wrote raises anything
        called = {frame.f_code.co_name for frame, _ in traceback.walk_tb(error.__traceback__)}
        restores = called & {"_restore_modules_and_callbacks", "restore_training_state"}
        if not restores or isinstance(error, UserError | OSError):
            raise
        reason = f"is damaged: {type(error).__name__}: {error}" if not isinstance(error, Refused) else str(error)
        reason = " ".join(reason.split())[:150]
        folder = Path(os.path.relpath(folder))
        last = folder / "checkpoints" / "last.ckpt"
        raise SettingError(f"resume={folder}: {last} {reason}; type another run") from error


def _silence_what_does_not_concern_the_user() -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # "GPU available: False", tips, and the like
    # steps.csv has every step, whatever log_every_n_steps says; the others are Lightning's own affairs.
    warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
    warnings.filterwarnings("ignore", "GPU available but not used.*")  # Apple's, or one that the user did not choose
    warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated.*")
    warnings.filterwarnings("ignore", ".*could not find the monitored key.*")  # a run that ends before it validates
    warnings.filterwarnings("ignore", ".*callbacks used to create the checkpoint.*")  # probes may come and go
    warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", r"You are trying to `self.log\(\)` but `Trainer\(barebones=True\)`.*")
    warnings.filterwarnings("ignore", "The `srun` command is available.*")  # a run on a cluster's login node


def _best_checkpoint(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(
        folder / "checkpoints", "best", monitor="val/perplexity", mode="min", enable_version_counter=False
    )


def _last_checkpoint(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(folder / "checkpoints", "last", save_on_train_epoch_end=True, enable_version_counter=False)


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

"""Lightning's classes as this project needs them: the only file that uses Lightning's private names.

Tested with Lightning 2.6.6; pyproject.toml bounds it from above. Private are: `_iteration_based_training`,
and of the progress bar `_update_metrics` and `_get_train_description`.
"""

import logging
import signal
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.callbacks.progress import rich_progress
from lightning.pytorch.profilers import PassThroughProfiler
from rich import get_console

from timemachine.run.processes import interrupt

WIDE = 100  # columns of a terminal on which the progress bar has room for everything


class PerplexityBar(RichProgressBar):
    """Lightning's progress bar with the two numbers that matter under short names: train and val."""

    def __init__(self) -> None:
        bar = dict.fromkeys(("progress_bar", "progress_bar_finished", "progress_bar_pulse"), "cyan")
        super().__init__(theme=rich_progress.RichProgressBarTheme(metrics_format=".3f", **bar))

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return training and validation perplexity of the last epoch, and other metrics of the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        names = ["train/perplexity", "val/perplexity", *(name for name in metrics if name != "v_num")]
        return {name.removesuffix("/perplexity"): metrics[name] for name in names if name in metrics}

    def configure_columns(self, trainer: pl.Trainer) -> list[Any]:
        """Return Lightning's columns, but for the epoch's times and the speed where a terminal has no room for them."""
        columns = super().configure_columns(trainer)
        wide = (rich_progress.CustomTimeColumn, rich_progress.ProcessingSpeedColumn)
        return [column for column in columns if get_console().width >= WIDE or not isinstance(column, wide)]

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the last epoch's training perplexity, which is computed after the bar's own hook."""
        self._update_metrics(trainer, pl_module)
        self.refresh()
        super().on_train_end(trainer, pl_module)

    def _get_train_description(self, current_epoch: int) -> str:
        total = self.trainer.max_epochs or -1
        counted = f"Epoch {current_epoch + 1}" + (f"/{total}" if total > 0 else "")  # Lightning counts from 0
        return counted.ljust(len(self.validation_description))


class Interruptible(Callback):
    """Let SIGINT and SIGTERM interrupt training at once, in place of Lightning's handlers.

    Lightning's waits for the other processes of a run, which may wait for this one. Of several processes the first one
    is interrupted, and Lightning kills the others.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace the handlers that Lightning has installed as the fit began; it restores the old ones at its end."""
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:  # as a shell starts what runs in the background
                signal.signal(number, interrupt if trainer.is_global_zero else signal.SIG_IGN)


class Unprofiled(PassThroughProfiler):
    """Lightning's profiler that does nothing, in a fifth of the time; Lightning asks it some 50 times a step."""

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        """Return a context that does nothing."""
        return _NOTHING


_NOTHING = nullcontext()


def end_each_epoch_once(trainer: pl.Trainer) -> None:
    """Keep Lightning, with max_steps, from taking the last epoch of a resumed run for one under way."""
    trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]


def silence() -> None:
    """Keep what does not concern a user from being printed."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # "GPU available: False", tips, and the like
    for message in (
        ".*smaller than the logging interval.*",  # steps.csv has every step
        "GPU available but not used.*",  # Apple's, or one that the user did not choose
        ".*LeafSpec.* is deprecated.*",
        ".*could not find the monitored key.*",  # a run that ends before it validates
        ".*callbacks used to create the checkpoint.*",  # probes may come and go
        "Checkpoint directory .* exists and is not empty.*",
        r"You are trying to `self.log\(\)` but `Trainer\(barebones=True\)`.*",
        "Precision .* is not supported by the model summary.*",  # which counts 32 bits instead
        "The `srun` command is available.*",  # a run on a cluster's login node
    ):
        warnings.filterwarnings("ignore", message)

"""Lightning's classes, adapted to this project: the only file that uses Lightning's private names.

Tested with Lightning 2.6.6; pyproject.toml bounds it from above. The private names are `_iteration_based_training` and,
of the progress bar, `_update_metrics` and `_get_train_description`.
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

WIDE = 100  # width of a terminal, in characters, that fits all columns of the progress bar


class PerplexityBar(RichProgressBar):
    """Lightning's progress bar, with training and validation perplexity under short names: train and val."""

    def __init__(self) -> None:
        bar = dict.fromkeys(("progress_bar", "progress_bar_finished", "progress_bar_pulse"), "cyan")
        super().__init__(theme=rich_progress.RichProgressBarTheme(metrics_format=".3f", **bar))

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return the perplexities of the last epoch, then the other metrics of the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        names = ["train/perplexity", "val/perplexity", *(name for name in metrics if name != "v_num")]
        return {name.removesuffix("/perplexity"): metrics[name] for name in names if name in metrics}

    def configure_columns(self, trainer: pl.Trainer) -> list[Any]:
        """Return Lightning's columns; on a narrow terminal, without the times of the epoch and the speed."""
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
    """Let SIGINT and SIGTERM interrupt training at once, instead of Lightning's handlers.

    Lightning's SIGTERM handler waits for the other processes of a run, which may be waiting for this one. If a run has
    several processes, the first is interrupted, and Lightning kills the others.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace the handlers that Lightning installed when the fit started; it restores the old ones at the end."""
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:  # as in a shell's background processes
                signal.signal(number, interrupt if trainer.is_global_zero else signal.SIG_IGN)


class Unprofiled(PassThroughProfiler):
    """Lightning's profiler that does nothing, in a fifth of the time: Lightning calls it about 50 times per step."""

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        """Return a context that does nothing."""
        return _NOTHING


_NOTHING = nullcontext()


def end_each_epoch_once(trainer: pl.Trainer) -> None:
    """With max_steps, Lightning takes the last epoch of a resumed run for an unfinished one; prevent that."""
    trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]


def silence() -> None:
    """Suppress messages of Lightning that do not concern a user of this program."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # hides "GPU available: False", tips, …
    for message in (
        ".*smaller than the logging interval.*",  # steps.csv has every step
        "GPU available but not used.*",  # Apple's, or one that the user did not choose
        ".*LeafSpec.* is deprecated.*",
        ".*could not find the monitored key.*",  # a run that ends before its first validation
        ".*callbacks used to create the checkpoint.*",  # a resumed run may have other probes
        "Checkpoint directory .* exists and is not empty.*",
        r"You are trying to `self.log\(\)` but `Trainer\(barebones=True\)`.*",
        "Precision .* is not supported by the model summary.*",  # which assumes 32 bits
        "The `srun` command is available.*",  # a run on the login node of a cluster
    ):
        warnings.filterwarnings("ignore", message)

"""Where metrics go: metrics.csv and steps.csv always, Weights & Biases or TensorBoard beside them."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from timemachine.config import Train, WandbMode
from timemachine.errors import SettingError
from timemachine.runs.ending import final_numbers
from timemachine.runs.metrics import RunLog
from timemachine.runs.record import Record, outcome
from timemachine.training.lightning import shows_bar


@contextmanager
def open_loggers(settings: Train, run: Record) -> Iterator[list[Logger | Callback]]:
    """Give the loggers of a run. At the end W&B gets what the record says of it then, or the exception.

    Raises SettingError without TensorBoard.
    """
    choice = settings.logger.wandb
    logs: list[Logger | Callback] = [RunLog(run.folder, prints_lines=not (run.quiet or shows_bar(settings.trainer)))]
    if settings.logger.tensorboard:
        logs.append(_tensorboard(run.folder))
    wandb_run = None
    if choice is not None and choice.mode is not WandbMode.disabled and run.writes:
        from timemachine.weights_and_biases.run import WandbRun  # it imports wandb, which takes time

        wandb_run = WandbRun.begin(choice, run)
    try:
        yield [*logs, wandb_run] if wandb_run else logs
    except BaseException as error:
        with suppress(ValueError, LookupError, TypeError, OverflowError):  # a stranger's tables, which are refused
            run.update(metrics=final_numbers(run.folder))
        if wandb_run:
            wandb_run.end(run, *outcome(error))
        raise
    if wandb_run:
        wandb_run.end(run, run.summary["status"], run.summary["message"])


def _tensorboard(folder: Path) -> Logger:
    try:
        return TensorBoardLogger(folder, name="", version="tensorboard")
    except ModuleNotFoundError as error:
        raise SettingError("logger=tensorboard: is not installed; type pip install -e '.[tensorboard]'") from error

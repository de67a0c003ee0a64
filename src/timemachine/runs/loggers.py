"""Where metrics go: metrics.csv and steps.csv always, Weights & Biases or TensorBoard beside them."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from timemachine.config import Train, WandbMode
from timemachine.errors import SettingError
from timemachine.runs.ending import final_numbers
from timemachine.runs.files import cannot_write
from timemachine.runs.metrics import RunLog
from timemachine.runs.record import Record, outcome
from timemachine.training.lightning import shows_bar


@contextmanager
def open_loggers(settings: Train, run: Record) -> Iterator[list[Logger | Callback]]:
    """Give the loggers of a run. At the end W&B gets what the record says of it then, or the exception.

    Raises SettingError without TensorBoard; the first error if a full disk raises others while loggers close.
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
    except BaseException as last:
        error = _first(last, run.folder)
        with suppress(OSError, ValueError, LookupError):  # a full disk; a table of a resumed run that is damaged
            run.update(metrics=final_numbers(run.folder))
        if wandb_run:
            with suppress(OSError):
                wandb_run.end(run, *outcome(error))
        if error is last:
            raise
        raise error from error.__cause__
    if wandb_run:
        wandb_run.end(run, run.summary["status"], run.summary["message"])


def _first(error: BaseException, folder: Path) -> BaseException:
    """Return the error during which those came that the folder's disk has raised since, in loggers and callbacks."""
    while cannot_write(folder, error) and error.__context__ is not None and not error.__suppress_context__:
        error = error.__context__
    return error


def _tensorboard(folder: Path) -> Logger:
    try:
        return TensorBoardLogger(folder, name="", version="tensorboard")
    except ModuleNotFoundError as error:
        raise SettingError("logger=tensorboard: is not installed; type pip install -e '.[tensorboard]'") from error

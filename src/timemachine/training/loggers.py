"""Where metrics go beside metrics.csv and steps.csv: Weights & Biases, TensorBoard."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from timemachine.config import Train, WandbMode
from timemachine.errors import SettingError
from timemachine.runs.record import Record, outcome
from timemachine.runs.rows import final_numbers


@contextmanager
def open_loggers(settings: Train, run: Record) -> Iterator[list[Any]]:
    """Give the loggers of a run. At the end W&B gets what the record says of it then, or the exception.

    Raises SettingError without TensorBoard.
    """
    choice, loggers = settings.logger.wandb, list[Any]()
    if settings.logger.tensorboard:
        try:
            loggers.append(TensorBoardLogger(run.folder, name="", version="tensorboard"))
        except ModuleNotFoundError as error:
            raise SettingError("logger=tensorboard: is not installed; type pip install -e '.[tensorboard]'") from error
    wandb_run = None
    if choice is not None and choice.mode is not WandbMode.disabled and run.writes:
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

"""Where metrics go: metrics.csv and steps.csv always, Weights & Biases or TensorBoard beside them."""

import csv
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import lightning.pytorch as pl
from hydra.conf import HydraConf
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from timemachine.checkpoint import refuse_unlike
from timemachine.config import SettingError, Train, WandbMode
from timemachine.record import Record, is_first_process, outcome
from timemachine.sweep import short

EPOCH_COLUMNS = (
    "epoch",
    "step",
    "train/perplexity",
    "val/perplexity",
    "test/perplexity",
    "grad_norm",
    "grad_norm_clipped",
    "clip_fraction",
    "chars_per_second",
)
STEP_COLUMNS = ("epoch", "step", "loss", "grad_norm", "grad_norm_clipped")


class RunLog(Logger, Callback):
    """metrics.csv, a row an epoch with train and validation side by side, and steps.csv, a row a step.

    Epochs and steps count from 1: those that are done. `grad_norm` and `grad_norm_clipped` of an epoch are means over
    its steps. Both files are written once an epoch. (Lightning's CSVLogger puts train and val into separate rows.)
    """

    def __init__(self, folder: Path, prints_lines: bool = False) -> None:
        super().__init__()
        self.folder = folder
        self.prints_lines = prints_lines  # an epoch's numbers, for where there is no progress bar
        self._row: dict[str, Any] = {}  # of the epoch under way, or of the last one
        self._row_begins = 0  # its offset in metrics.csv
        self._steps: list[dict[str, float]] = []  # not yet written
        # The rows of both files up to a checkpoint, while the files have more.
        self._goes_on_with: tuple[list[dict[str, Any]], list[dict[str, Any]]] | None = None

    @property
    def name(self) -> str:
        """The run's folder."""
        return self.folder.name

    @property
    def version(self) -> str:
        """None: a folder holds one run."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: summary.json has the settings."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """A row of steps.csv where there is a gradient's norm, else numbers of the epoch's row in metrics.csv."""
        self._go_back()
        if "grad_norm" in metrics:
            self._steps.append({**metrics, "epoch": metrics["epoch"] + 1, "step": step or 0})
        elif "test/perplexity" in metrics:  # comes after training and belongs to the last epoch
            self._row["test/perplexity"] = metrics["test/perplexity"]
            self._write_row()
        elif "train/perplexity" in metrics:  # comes last in an epoch
            means = {name: _mean([row[name] for row in self._steps]) for name in ("grad_norm", "grad_norm_clipped")}
            validation = {} if "train/perplexity" in self._row else self._row
            self._row = {**validation, **metrics, **means, "epoch": metrics["epoch"] + 1, "step": (step or 0) + 1}
            self._row_begins = _size(self.folder / "metrics.csv")
            self._write_row()
            self._write_steps()
            if self.prints_lines:
                val = self._row.get("val/perplexity", math.nan)
                train = self._row["train/perplexity"]
                print(f"epoch {self._row['epoch']:>4}  train {short(train):>8}  val {short(val):>8}", flush=True)
        else:
            self._row = dict(metrics)

    @rank_zero_only
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on where the checkpoint was saved. Raises Refused, or SettingError, for what has not been written here."""
        refuse_unlike(checkpoint["loops"], {"fit_loop": trainer.fit_loop.state_dict()}, "loops")
        refuse_unlike(checkpoint["global_step"], 0, "global_step")
        if not checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]:
            epoch = checkpoint["epoch"] + 1
            print(
                f"epoch {epoch} was cut short by trainer.max_steps, max_time or the like: the run goes on with epoch "
                f"{epoch + 1}, and not as one that was never ended",
                file=sys.stderr,
            )
        last_step = checkpoint["global_step"]
        epochs, steps = _rows(self.folder / "metrics.csv", last_step), _rows(self.folder / "steps.csv", last_step)
        numbers = [int(row["step"]) for row in steps]
        whole = numbers == list(range(1, len(numbers) + 1)) and len(numbers) == last_step
        for name, has_the_last in (
            ("metrics.csv", not last_step or (epochs and int(epochs[-1]["step"]) == last_step)),
            ("steps.csv", whole),
        ):
            if not has_the_last:
                raise _damaged(self.folder / name, f"it lacks rows up to step {last_step}")
        self._goes_on_with = epochs, steps

    @rank_zero_only
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop what came after the checkpoint: not before, as Lightning may yet refuse to go on."""
        self._go_back()

    def _go_back(self) -> None:
        """Drop the rows after the checkpoint, and the test that ended the run."""
        if self._goes_on_with is None:
            return
        (epochs, steps), self._goes_on_with = self._goes_on_with, None
        epochs = [row | {"test/perplexity": ""} for row in epochs]
        self._row = epochs[-1] if epochs else {}
        beside = self.folder / "going_on.part"  # a run may be killed here, too
        for name, columns, rows in (("steps.csv", STEP_COLUMNS, steps), ("metrics.csv", EPOCH_COLUMNS, epochs)):
            beside.unlink(missing_ok=True)
            _append(beside, columns, rows[:-1])
            self._row_begins = _size(beside)
            _append(beside, columns, rows[-1:])
            beside.replace(self.folder / name)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the steps of an epoch that broke off."""
        self._write_steps()

    def _write_row(self) -> None:
        path = self.folder / "metrics.csv"
        if _size(path):
            os.truncate(path, self._row_begins)
        _append(path, EPOCH_COLUMNS, [self._row])

    def _write_steps(self) -> None:
        if self._steps:
            _append(self.folder / "steps.csv", STEP_COLUMNS, self._steps)
            self._steps.clear()


def shows_bar(settings: Train) -> bool:
    """Whether a progress bar is drawn: on a terminal, unless `trainer.enable_progress_bar` says otherwise."""
    return sys.stdout.isatty() if settings.trainer.enable_progress_bar is None else settings.trainer.enable_progress_bar


def _rows(path: Path, last_step: int) -> list[dict[str, Any]]:
    """Rows as they were written, up to a step, without one that was cut short.

    Raises SettingError for what this program would not write.
    """
    if not path.exists():
        return []
    known = EPOCH_COLUMNS if path.name == "metrics.csv" else STEP_COLUMNS
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            if unknown := Counter(reader.fieldnames or ()) - Counter(known):
                raise ValueError(f"it has a column {next(iter(unknown))!r}")
            rows = [row for row in reader if None not in row.values()]
        for row in rows:
            for cell in row.values():
                float(cell or 0)
        return [row for row in rows if int(row["step"]) <= last_step]
    except (ValueError, LookupError, TypeError, csv.Error) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, reason: str) -> SettingError:
    return SettingError(f"resume={os.path.relpath(path.parent)}: {path.name} is damaged ({reason}); type another run")


def _append(path: Path, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        writer.writerows(rows)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


@dataclass(frozen=True, slots=True)
class Label:
    """What tells a run from others: in W&B its name, group (the sweep's folder) and job type."""

    name: str
    group: str | None
    job_type: str
    quiet: bool  # in an exercise, whose jobs run side by side: a line each

    @classmethod
    def of(cls, job: HydraConf, text: str) -> Self:
        """From Hydra's account of the job."""
        exercise = job.runtime.choices["exercise"]
        changes = [change for change in job.overrides.task if not change.startswith(("exercise=", "logger", "resume="))]
        in_sweep = not OmegaConf.is_missing(job.job, "num")
        group = os.path.relpath(Path(job.runtime.output_dir).parent) if in_sweep else None
        alone = exercise == "none"
        return cls(" ".join([text, *changes]), group, "train" if alone else exercise, not alone)


@contextmanager
def open_loggers(settings: Train, record: Record, label: Label) -> Iterator[list[Logger]]:
    """The loggers of a run. At the end W&B gets what `record` says of it then, or the exception.

    Raises SettingError without TensorBoard.
    """
    folder, choice = record.folder, settings.logger.wandb
    loggers: list[Logger] = [RunLog(folder, prints_lines=not (label.quiet or shows_bar(settings)))]
    if settings.logger.tensorboard:
        loggers.append(_tensorboard(folder))
    wandb_run = None
    if choice is not None and choice.mode is not WandbMode.disabled and is_first_process():
        from timemachine.wandb_run import WandbRun  # it imports wandb, which takes time

        wandb_run = WandbRun.begin(choice, record, label.name, label.group, label.job_type, label.quiet)
    if wandb_run is None:
        yield loggers
        return
    try:
        yield [*loggers, wandb_run]
    except BaseException as error:
        wandb_run.end(record, *outcome(error))
        raise
    wandb_run.end(record, record.summary["status"], record.summary["message"])


def _tensorboard(folder: Path) -> Logger:
    try:
        return TensorBoardLogger(folder, name="", version="tensorboard")
    except ModuleNotFoundError as error:
        raise SettingError("logger=tensorboard: is not installed; type pip install -e '.[tensorboard]'") from error

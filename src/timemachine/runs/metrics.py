"""The logger that writes metrics.csv, a row an epoch, and steps.csv, a row a step."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from timemachine.runs.rows import EPOCH_COLUMNS, STEP_COLUMNS, Row, append, read, rows_before, write_anew
from timemachine.runs.tables import short


class RunLog(Logger, Callback):
    """The two files, with train and validation of an epoch side by side; whatever `self.log` logs has a column.

    Epochs and steps count from 1: those that are done. `grad_norm` and `grad_norm_clipped` of an epoch are means over
    its steps. Both files are written once an epoch. (Lightning's CSVLogger puts train and val into separate rows.)
    """

    def __init__(self, folder: Path, prints_lines: bool = False) -> None:
        super().__init__()
        self.folder, self.path = folder, folder / "metrics.csv"
        self.prints_lines = prints_lines  # an epoch's numbers, for where there is no progress bar
        self._columns: Sequence[str] = EPOCH_COLUMNS
        self._row: Row = {}  # of the epoch under way, or of the last one
        self._written: Row = {}  # the last row of metrics.csv
        self._steps: list[Row] = []  # not yet written
        self._of_epoch: Row = {}  # what follows from them, for its row
        self._stage = "epoch"  # or "end of epoch"; "after" all of them
        self._resumes_after: int | None = None  # this step, while the files have more

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
        """Do nothing: summary.json has the settings."""

    @rank_zero_only
    def log_steps(self, rows: list[Row], of_epoch: Row) -> None:
        """Keep rows of steps.csv, and their part of the epoch's row, until that is written."""
        self._of_epoch = of_epoch
        self._steps += [row | {"epoch": int(row["epoch"]) + 1} for row in rows]

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add numbers to the epoch's row, and write it if the epoch is at its end; a test belongs to the last epoch."""
        self._go_back()
        found = dict(metrics)
        epoch = int(found.pop("epoch")) + 1
        if self._stage == "after":
            self._row = self._row | found
        else:
            before = self._row if self._row.get("epoch") == epoch else {}
            self._row = before | self._of_epoch | found | {"epoch": epoch, "step": (step or 0) + 1}
        if self._stage in ("end of epoch", "after"):
            self._write()

    @rank_zero_only
    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin an epoch."""
        self._stage, self._of_epoch = "epoch", {}

    @rank_zero_only
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From now on the epoch's row is written as it grows."""
        self._stage = "end of epoch"

    @rank_zero_only
    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From now on numbers belong to the last epoch."""
        self._stage = "after"

    @rank_zero_only
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note where the run is resumed; the files stay as they are until it trains, as Lightning may yet refuse to."""
        self._resumes_after = checkpoint["global_step"]

    @rank_zero_only
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop what came after the checkpoint."""
        self._go_back()

    def _go_back(self) -> None:
        """Drop the rows after the step at which the run is resumed, and the test that ended it before."""
        if self._resumes_after is None:
            return
        last_step, self._resumes_after = self._resumes_after, None
        steps, epochs = (rows_before(self.folder / name, last_step) for name in ("steps.csv", "metrics.csv"))
        epochs = [{name: "" if name.startswith("test/") else cell for name, cell in row.items()} for row in epochs]
        self._columns = list(dict.fromkeys([*EPOCH_COLUMNS, *(epochs[-1] if epochs else ())]))
        write_anew(self.folder / "steps.csv", STEP_COLUMNS, steps)
        write_anew(self.path, self._columns, epochs)
        self._row = dict(epochs[-1]) if epochs else {}
        self._written = dict(self._row)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the steps of an epoch that broke off."""
        self._write_steps()

    def _write(self) -> None:
        """Put the row into metrics.csv, in place of what is there of the same epoch."""
        if self._steps:
            for name in ("grad_norm", "grad_norm_clipped"):
                self._row[name] = math.fsum(row[name] for row in self._steps) / len(self._steps)
        elif self._stage == "end of epoch":
            self._row = {"grad_norm": math.nan, "grad_norm_clipped": math.nan} | self._row
        if self._row == self._written:
            return
        new = [name for name in self._row if name not in self._columns]
        is_new = self._row.get("epoch") != self._written.get("epoch")
        self._columns = [*self._columns, *new]
        if is_new and not new:
            append(self.path, self._columns, [self._row])
        else:
            before = read(self.path)
            write_anew(self.path, self._columns, [*(before if is_new else before[:-1]), self._row])
        self._written = dict(self._row)
        self._write_steps()
        if is_new and self.prints_lines and self._stage == "end of epoch":
            train, val = (self._row.get(f"{name}/perplexity", math.nan) for name in ("train", "val"))
            print(f"epoch {self._row['epoch']:>4}  train {short(train):>8}  val {short(val):>8}", flush=True)

    def _write_steps(self) -> None:
        if self._steps:
            append(self.folder / "steps.csv", STEP_COLUMNS, self._steps)
            self._steps.clear()

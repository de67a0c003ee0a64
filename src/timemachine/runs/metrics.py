"""What writes metrics.csv, a row a validation or an epoch, and steps.csv, a row a step."""

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from timemachine.runs.rows import EPOCH_COLUMNS, STEP_COLUMNS, Row, Table, rows_before
from timemachine.runs.tables import short


class RunLog(Callback):
    """The two files, with train and validation of an epoch side by side; whatever `self.log` logs has a column.

    It takes the rows of `training.steps.Steps`. Both files are written once an epoch. (Lightning's CSVLogger puts train
    and val into separate rows.)
    """

    def __init__(self, folder: Path, prints_lines: bool = False) -> None:
        super().__init__()
        self.folder = folder
        self.prints_lines = prints_lines  # an epoch's numbers, for where there is no progress bar
        self._metrics = Table(folder / "metrics.csv", EPOCH_COLUMNS)
        self._steps = Table(folder / "steps.csv", STEP_COLUMNS)
        self._row: Row = {}  # the last one, which may still grow
        self._last_val = math.nan, math.nan  # its epoch, and the perplexity
        self._resumes_after: int | None = None  # this step, while the files have more

    @rank_zero_only
    def log_steps(self, rows: list[Row]) -> None:
        """Add rows to steps.csv."""
        self._go_back()
        self._steps.add(rows)

    @rank_zero_only
    def log_row(self, row: Row) -> None:
        """Add numbers to the last row if they are of its epoch and step, or begin another; write those that are whole.

        Whole is an epoch's end, and a validation in mid-epoch when another row comes.
        """
        self._go_back()
        before = self._row
        if any(row[name] != before.get(name) for name in ("epoch", "step")):
            self._metrics.put(before)
            before = {}
        self._row = before | row
        if "val/perplexity" in row:
            self._last_val = row["epoch"], row["val/perplexity"]
        if "clip_fraction" not in row:
            return
        self._metrics.put(self._row)
        if self.prints_lines:
            train = self._row.get("train/perplexity", math.nan)
            val = self._last_val[1] if self._last_val[0] == row["epoch"] else math.nan
            print(f"epoch {self._row['epoch']:>4}  train {short(train):>8}  val {short(val):>8}", flush=True)

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

    @rank_zero_only
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write a validation that came after the last epoch's end."""
        self._metrics.put(self._row)

    @rank_zero_only
    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the test's numbers."""
        self._metrics.put(self._row)

    def _go_back(self) -> None:
        """Drop the rows after the step at which the run is resumed, and the test that ended it before."""
        if self._resumes_after is None:
            return
        last_step, self._resumes_after = self._resumes_after, None
        for table in (self._steps, self._metrics):
            rows = rows_before(table.path, last_step)
            for row in rows:
                row |= {"epoch": int(row["epoch"]), "step": int(row["step"])}
                row |= {name: "" for name in row if name.startswith("test/")}
            table.replace(rows, rows[-1] if rows else ())
        self._row = self._metrics.last

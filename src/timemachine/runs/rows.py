"""metrics.csv and steps.csv: how rows get into them, how they are read, and a run's final numbers."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timemachine.runs.files import write_whole

EPOCH_COLUMNS = (
    "epoch", "step", "train/perplexity", "val/perplexity", "test/perplexity", "grad_norm", "grad_norm_clipped",
    "clip_fraction", "chars_per_second",
)  # fmt: skip
STEP_COLUMNS = ("epoch", "step", "loss", "grad_norm", "grad_norm_clipped")
Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """Return a table's rows as texts; a file that is not there has none."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_numbers(path: Path) -> list[dict[str, float]]:
    """Return a table of numbers; an empty cell is not a number, a file that is not there has no row."""
    return [{name: float(value) if value else math.nan for name, value in row.items()} for row in read(path)]


def final_numbers(folder: Path) -> dict[str, float]:
    """Return the last epoch's numbers in metrics.csv, the best validation perplexity, and how often clipping acted."""
    epochs, steps = read_numbers(folder / "metrics.csv"), read_numbers(folder / "steps.csv")
    if not epochs:
        return {}
    epoch, step = int(epochs[-1]["epoch"]), int(epochs[-1]["step"])
    last = [row for row in epochs if row["epoch"] == epoch]  # several, with validations in mid-epoch
    numbers = {name: value for row in last for name, value in row.items() if not math.isnan(value)}
    numbers |= {"epoch": epoch, "step": step}
    if validated := [row for row in epochs if not math.isnan(row["val/perplexity"])]:
        if validated[-1]["epoch"] == epoch and validated[-1]["step"] != step:
            numbers["val_step"] = int(validated[-1]["step"])  # the last validation was not at the epoch's end
        best = min(validated, key=lambda row: row["val/perplexity"])
        numbers |= {"best_val/perplexity": best["val/perplexity"], "best_epoch": int(best["epoch"])}
    if steps:
        acted = sum(row["grad_norm"] > row["grad_norm_clipped"] for row in steps)
        largest = max(row["grad_norm"] for row in steps)
        numbers |= {"clipped_steps": acted, "num_steps_done": len(steps), "largest_grad_norm": largest}
    return numbers


class Table:
    """A file of rows: a new one is appended, a new name becomes a column, the last row may still grow."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, list(columns)
        self.last: Row = {}  # what `put` has gathered
        self._written: Row = {}  # what of it the file has

    def add(self, rows: list[Row]) -> None:
        """Append rows. Write the file anew if one has a new name, in one step, as a run may be killed here, too."""
        if any(name not in self.columns for row in rows for name in row):
            self.replace([*read(self.path), *rows])
        elif rows:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                self._write(file, rows, header=file.tell() == 0)

    def put(self, row: Row) -> None:
        """Add the numbers to the last row if that is of the same epoch and step, or else begin another after it."""
        if not _is_same(row, self.last):
            self.flush()
            self.last = {}
        self.last = self.last | row

    def flush(self) -> None:
        """Write the last row if it has new numbers."""
        if self.last == self._written or len(self.last) <= 2:
            return
        if _is_same(self.last, self._written):
            self.replace([*read(self.path)[:-1], self.last])
        else:
            self.add([self.last])
        self._written = self.last

    def go_back(self, last_step: int) -> None:
        """Drop the rows after a step, one that was cut short, and the test that came after the last one."""
        rows = [row for row in read(self.path) if None not in row.values() and int(row["step"]) <= last_step]
        for row in rows:
            row |= {"epoch": int(row["epoch"]), "step": int(row["step"])}
            row |= {name: "" for name in row if name.startswith("test/")}
        self.replace(rows)
        self.last = self._written = rows[-1] if rows else {}

    def replace(self, rows: list[Row]) -> None:
        """Write the file anew, with the names of the rows among its columns."""
        self.columns = list(dict.fromkeys([*self.columns, *(name for row in rows for name in row)]))
        text = io.StringIO()
        self._write(text, rows, header=True)
        write_whole(self.path, text.getvalue().encode())

    def _write(self, file: Any, rows: list[Row], header: bool) -> None:
        writer = csv.DictWriter(file, self.columns, lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)


def _is_same(row: Row, other: Row) -> bool:
    """Return whether both rows are of the same epoch and step."""
    return all(row.get(name) == other.get(name) for name in ("epoch", "step"))

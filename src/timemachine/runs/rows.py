"""Tables of numbers in a run's folder: how rows get into them, and how they are read as if a stranger had sent them."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from timemachine.errors import SettingError
from timemachine.runs.files import shown, write_whole

EPOCH_COLUMNS = (
    "epoch", "step", "train/perplexity", "val/perplexity", "test/perplexity", "grad_norm", "grad_norm_clipped",
    "clip_fraction", "chars_per_second",
)  # fmt: skip
STEP_COLUMNS = ("epoch", "step", "loss", "grad_norm", "grad_norm_clipped")
Row = dict[str, Any]


def rows_before(path: Path, last_step: int) -> list[Row]:
    """Return the rows up to a step as they were written, without one that was cut short.

    Raises SettingError where a row is missing, or is not one of numbers.
    """
    try:
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                header = next(csv.reader(file), [])
            known = EPOCH_COLUMNS if path.name == "metrics.csv" else STEP_COLUMNS
            if odd := [*(set(known) - set(header)), *(name for name in header if header.count(name) > 1)]:
                raise ValueError(f"it lacks the column {odd[0]!r}, or has one twice")
        rows = [row for row in read(path) if None not in row.values()]
        for row in rows:
            if None in row:
                raise ValueError("a row is longer than the header")
            for cell in row.values():
                float(cell or 0)
        rows = [row for row in rows if int(row["step"]) <= last_step]
        numbers = [int(row["step"]) for row in rows]
        whole = numbers == list(range(1, last_step + 1)) if path.name == "steps.csv" else numbers[-1:] == [last_step]
        if last_step and not whole:
            raise ValueError(f"it lacks rows up to step {last_step}")
    except (ValueError, LookupError, TypeError, csv.Error) as error:
        folder = shown(path.parent)
        raise SettingError(f"resume={folder}: {path.name} is damaged ({error}); type another run") from error
    return rows


def read(path: Path) -> list[Row]:
    """Return a table's rows as texts; a file that is not there has none."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_numbers(path: Path) -> list[dict[str, float]]:
    """Return a table of numbers; an empty cell is not a number, a file that is not there has no row."""
    return [{name: float(value) if value else math.nan for name, value in row.items()} for row in read(path)]


class Table:
    """A file of rows: a new one is appended, a new name becomes a column, the last row may still grow."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path, self.columns = path, list(columns)
        self.last: Row = {}  # the row at the end, if it is known

    def add(self, rows: list[Row]) -> None:
        """Append rows. Write the file anew if one has a new name, in one step, as a run may be killed here, too."""
        if not rows:
            return
        if new := dict.fromkeys(name for row in rows for name in row if name not in self.columns):
            self.replace([*read(self.path), *rows], new)
        else:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                self._write(file, rows, header=file.tell() == 0)
            self.last = dict(rows[-1])

    def put(self, row: Row) -> None:
        """Append a row, or replace the last one if that is of the same epoch and step."""
        if not row or row == self.last:
            return
        if any(row[name] != self.last.get(name) for name in ("epoch", "step")):
            self.add([row])
        else:
            self.replace([*read(self.path)[:-1], row], row)

    def replace(self, rows: list[Row], names: Iterable[str] = ()) -> None:
        """Write the file anew, with these names among its columns."""
        self.columns = list(dict.fromkeys([*self.columns, *names]))
        text = io.StringIO()
        self._write(text, rows, header=True)
        write_whole(self.path, text.getvalue().encode())
        self.last = dict(rows[-1]) if rows else {}

    def _write(self, file: Any, rows: list[Row], header: bool) -> None:
        writer = csv.DictWriter(file, self.columns, lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)

"""Tables of numbers in a run's folder: how rows get into them, and how they are read as if a stranger had sent them."""

import csv
import io
import math
from collections.abc import Sequence
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


def append(path: Path, columns: Sequence[str], rows: list[Row]) -> None:
    """Add rows to a table, after a header if it is new."""
    with path.open("a", newline="", encoding="utf-8") as file:
        _writer(file, columns, header=file.tell() == 0).writerows(rows)


def write_anew(path: Path, columns: Sequence[str], rows: list[Row]) -> None:
    """Replace the file in one step, as a run may be killed here, too."""
    text = io.StringIO()
    _writer(text, columns, header=True).writerows(rows)
    write_whole(path, text.getvalue().encode())


def _writer(file: Any, columns: Sequence[str], header: bool) -> "csv.DictWriter[str]":
    writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
    if header:
        writer.writeheader()
    return writer

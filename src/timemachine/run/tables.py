"""metrics.csv and steps.csv as rows: written for people and other programs, read for curves."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timemachine.errors import SettingError, one_line
from timemachine.run.files import write_whole

Row = dict[str, Any]
# Columns that a table always has, before those of `self.log`.
COLUMNS = {
    "metrics.csv": (
        "epoch", "step", "train/perplexity", "val/perplexity", "val/bits_per_byte", "test/perplexity",
        "test/bits_per_byte", "grad_norm", "grad_norm_clipped", "clip_fraction", "chars_per_second",
    ),
    "steps.csv": ("epoch", "step", "loss", "grad_norm", "grad_norm_clipped"),
}  # fmt: skip


def read_rows(path: Path) -> list[dict[str, float]]:
    """Return the rows of a table, NaN for an empty cell; none if there is no file, and no row that a kill cut short.

    Raises SettingError for a damaged table.
    """
    if not path.exists():
        return []
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
        rows = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
        return [{name: float(cell) if cell else math.nan for name, cell in row.items()} for row in rows]
    except (ValueError, TypeError, csv.Error) as error:
        raise SettingError(f"{path}: damaged, or not a table of numbers: {one_line(error, 100)}") from error


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Replace a table, whole or not at all. Names that are not in `COLUMNS` become further columns."""
    text = io.StringIO()
    # In the order of their first appearance, so that a resumed run's table has the same header.
    names = dict.fromkeys([*COLUMNS.get(path.name, ()), *(name for row in rows for name in row)])
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Append rows to a table that has their columns."""
    with path.open("r+", newline="", encoding="utf-8") as file:
        columns = next(csv.reader(file))
        file.seek(0, io.SEEK_END)
        csv.DictWriter(file, columns, lineterminator="\n").writerows(rows)

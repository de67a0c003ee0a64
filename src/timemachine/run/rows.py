"""metrics.csv and steps.csv: read, append and remove rows, and compute a run's final numbers from them."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from timemachine.errors import SettingError, one_line
from timemachine.run.files import relative_path, write_whole

EPOCH_COLUMNS = (
    "epoch", "step", "train/perplexity", "val/perplexity", "val/bits_per_byte", "test/perplexity", "test/bits_per_byte",
    "grad_norm", "grad_norm_clipped", "clip_fraction", "chars_per_second",
)  # fmt: skip
STEP_COLUMNS = ("epoch", "step", "loss", "grad_norm", "grad_norm_clipped")
COLUMNS = {"metrics.csv": EPOCH_COLUMNS, "steps.csv": STEP_COLUMNS}  # always present, before the columns of `self.log`
Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """Return the rows of a table, with the numbers as text; none if the file does not exist.

    A last line without a line end is skipped: the run was killed while writing it. Raises SettingError for a damaged
    file.
    """
    if not path.exists():
        return []
    try:
        text = path.read_bytes().decode()
        reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""), strict=True)
        rows = list(reader)
        if missing := [name for name in COLUMNS.get(path.name, ()) if name not in (reader.fieldnames or ())]:
            raise ValueError(f"no column {missing[0]}")
        for number, row in enumerate(rows, 1):
            if None in row or None in row.values():
                raise ValueError(f"row {number} and the header have different numbers of cells")
            for name, value in row.items():  # only to find values that are not numbers
                if name in ("epoch", "step"):
                    int(value)
                elif value:
                    float(value)
    except (csv.Error, ValueError) as error:
        rule = f"is damaged ({one_line(error, 100)}); restore the file from a copy, or use another run"
        raise SettingError(f"{relative_path(path)}: {rule}") from error
    return rows


def read_numbers(path: Path) -> list[dict[str, float]]:
    """Return the rows of a table as numbers, NaN for an empty cell; none if the file does not exist.

    Raises SettingError for a damaged file.
    """
    return [{name: float(value) if value else math.nan for name, value in row.items()} for row in read(path)]


def final_numbers(folder: Path) -> dict[str, float]:
    """Return the numbers of the last epoch and the best validation, and in how many steps the gradient was clipped."""
    epochs, steps = read_numbers(folder / "metrics.csv"), read_numbers(folder / "steps.csv")
    if not epochs:
        return {}
    epoch, step = int(epochs[-1]["epoch"]), int(epochs[-1]["step"])
    last = [row for row in epochs if row["epoch"] == epoch]  # several rows if there were validations within the epoch
    numbers = {name: value for row in last for name, value in row.items() if not math.isnan(value)}
    numbers |= {"epoch": epoch, "step": step}
    if validated := [row for row in epochs if not math.isnan(row["val/perplexity"])]:
        if validated[-1]["epoch"] == epoch and validated[-1]["step"] != step:
            numbers["val_step"] = int(validated[-1]["step"])  # the last validation was not at the epoch's end
        # Perplexities of a diverged run may all be inf, where bits are finite.
        best = min(validated, key=lambda row: (row["val/perplexity"], row.get("val/bits_per_byte", 0)))
        for name in ("val/perplexity", "val/bits_per_byte"):  # the same targets, so the same epoch is the best by both
            if not math.isnan(best.get(name, math.nan)):
                numbers[f"best_{name}"] = best[name]
        numbers["best_epoch"] = int(best["epoch"])
    if steps:
        acted = sum(row["grad_norm"] > row["grad_norm_clipped"] for row in steps)
        largest = max(row["grad_norm"] for row in steps)
        numbers |= {"clipped_steps": acted, "num_steps_done": len(steps), "largest_grad_norm": largest}
    return numbers


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Replace a table by these rows, atomically. Names that are not in `columns` become further columns."""
    names = dict.fromkeys([*columns, *(name for row in rows for name in row)])
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())


def add_rows(path: Path, rows: Sequence[Row]) -> None:
    """Append rows to metrics.csv or steps.csv. Rewrite the file if the rows have columns that it lacks."""
    known: list[str] = []
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            known = next(csv.reader(file), [])
    if any(name not in known for row in rows for name in row):
        write_rows(path, COLUMNS[path.name], [*read(path), *rows])
    else:
        with path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, known, lineterminator="\n").writerows(rows)


def keep_rows(path: Path, last_step: int) -> None:
    """Remove the rows after a step, and the test metrics, which a resumed run computes again."""
    if path.exists():
        rows = [row for row in read(path) if int(row["step"]) <= last_step]
        kept = [{name: "" if name.startswith("test/") else row[name] for name in row} for row in rows]
        write_rows(path, COLUMNS[path.name], kept)

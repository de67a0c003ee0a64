"""Synthetic jobs of a sweep, for tests of the code that reads them."""

import json
from pathlib import Path
from typing import Any

from timemachine.run.tables import COLUMNS, write_rows

Rows = list[dict[str, Any]]


def leave_job(
    sweep: Path,
    settings: dict[str, Any],
    *,
    status: str = "completed",
    number: int | None = None,
    tables: dict[str, Rows] | None = None,
    **entries: Any,
) -> Path:
    """Create the folder of a job in a sweep, with the given number or the next one, and return it.

    `settings`: nested like conf. `tables`: rows of metrics.csv, steps.csv and so on, keyed by the name without `.csv`;
    other columns are empty.
    `entries`: other keys of summary.json, such as metrics, message, probes. The text is The Time Machine.
    """
    sweep.mkdir(exist_ok=True)
    if number is None:
        number = sum(path.name.isdigit() for path in sweep.iterdir())
    folder = sweep / str(number)
    (folder / ".hydra").mkdir(parents=True)
    summary: dict[str, Any] = {"status": status, "message": None, "settings": settings, "metrics": {}}
    summary |= {"started": "2026-01-01T00:00:00+0000", "seconds": 12.0, "corpus": {}} | entries
    (folder / "summary.json").write_text(json.dumps(summary))
    for name, rows in (tables or {}).items():
        columns = COLUMNS.get(f"{name}.csv", ())
        numbered = [({"epoch": number, "step": number} if columns else {}) | row for number, row in enumerate(rows, 1)]
        write_rows(folder / f"{name}.csv", numbered)
    return folder

"""What the reference sweeps left in sweeps/reference, for the test that derives the numbers of texts from it."""

import csv
from typing import Any

import numpy as np

from timemachine.config import REPOSITORY

REFERENCE = REPOSITORY / "sweeps/reference"


def table(name: str) -> list[dict[str, Any]]:
    """Return summary.csv of an exercise, a dict a job: numbers as floats, "" as None."""
    with (REFERENCE / name / "summary.csv").open(newline="", encoding="utf-8") as file:
        return [{column: _value(text) for column, text in row.items()} for row in csv.DictReader(file)]


def arrays(name: str) -> dict[str, np.ndarray[Any, Any]]:
    """Return arrays.npz of an exercise."""
    with np.load(REFERENCE / name / "arrays.npz", allow_pickle=False) as kept:
        return dict(kept)


def _value(text: str) -> Any:
    try:
        return float(text) if text else None
    except ValueError:
        return text

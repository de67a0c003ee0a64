"""What a run of train.py has left in its folder, read without the project's own readers."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import torch


def table(path: Path) -> list[dict[str, float]]:
    """Return the rows of a CSV file of numbers, NaN where there is none; no rows if the file is not there."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{name: float(cell or math.nan) for name, cell in row.items()} for row in csv.DictReader(file)]


def summary(folder: Path) -> dict[str, Any]:
    """Return summary.json."""
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def epochs(folder: Path) -> int:
    """Return the number of rows of metrics.csv, while it is written, too."""
    path = folder / "metrics.csv"
    return path.read_text().count("\n") - 1 if path.exists() else 0


def what_is_left(folder: Path) -> dict[str, Any]:
    """Return the tables of a run, but for its speed, and its weights: what is compared bit for bit."""
    with (folder / "metrics.csv").open(newline="") as file:
        epochs = [{k: v for k, v in row.items() if k != "chars_per_second"} for row in csv.DictReader(file)]
    checkpoints = {}
    for path in sorted((folder / "checkpoints").glob("*.ckpt")):  # without validation there is no best one
        state = torch.load(path, weights_only=True)
        checkpoints[path.name] = {k: v.tolist() for k, v in state["state_dict"].items()}
    return {"steps": (folder / "steps.csv").read_text(), "epochs": epochs, "checkpoints": checkpoints}

"""What a run of train.py has left in its folder."""

import csv
from pathlib import Path
from typing import Any

import torch


def epochs(folder: Path) -> int:
    path = folder / "metrics.csv"
    return path.read_text().count("\n") - 1 if path.exists() else 0


def what_is_left(folder: Path) -> dict[str, Any]:
    """The files of a run but for its speed, and its weights."""
    with (folder / "metrics.csv").open(newline="") as file:
        epochs = [{k: v for k, v in row.items() if k != "chars_per_second"} for row in csv.DictReader(file)]
    checkpoints = {}
    for name in ("best", "last"):
        state = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
        checkpoints[name] = {k: v.tolist() for k, v in state["state_dict"].items()}
    return {"steps": (folder / "steps.csv").read_text(), "epochs": epochs, "checkpoints": checkpoints}

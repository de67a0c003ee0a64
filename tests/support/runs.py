"""Read the files of a run, and train in the process of the test."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from timemachine.config import Train, to_dict
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.page.epochs import EpochWeights
from timemachine.run.checkpoint import checkpoint_to_resume
from timemachine.run.record import Record, Role
from timemachine.run.trainer import build_trainer


def epochs(folder: Path) -> int:
    """Return the number of rows of metrics.csv, even while it is being written."""
    path = folder / "metrics.csv"
    return path.read_text().count("\n") - 1 if path.exists() else 0


def rows(path: Path) -> list[dict[str, float]]:
    """Return the numbers of a table without empty cells, or no rows if there is no table."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def summary(folder: Path) -> dict[str, Any]:
    """Return summary.json."""
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def what_is_left(folder: Path) -> dict[str, Any]:
    """Return the tables of a run, without its speed, and its weights, to compare them bit for bit."""
    with (folder / "metrics.csv").open(newline="") as file:
        epochs = [{k: v for k, v in row.items() if k != "chars_per_second"} for row in csv.DictReader(file)]
    checkpoints = {}
    for path in sorted((folder / "checkpoints").glob("*.ckpt")):  # there is no best checkpoint without validation
        state = torch.load(path, weights_only=True)
        checkpoints[path.name] = {k: v.tolist() for k, v in state["state_dict"].items()}
    return {"steps": (folder / "steps.csv").read_text(), "epochs": epochs, "checkpoints": checkpoints}


def fit(
    folder: Path,
    model: RNNLMScratch,
    data: TimeMachine,
    others: Sequence[Logger | Callback] = (),
    settings: Train | None = None,
    **trainer: Any,
) -> pl.Trainer:
    """Train like train.py on the CPU, resuming from the last checkpoint if there is one. `trainer`: its settings."""
    settings = settings or Train()
    for name, value in ({"accelerator": "cpu", "devices": 1} | trainer).items():
        setattr(settings.trainer, name, value)
    settings.resume = str(folder) if (folder / "summary.json").exists() else None
    folder.mkdir(exist_ok=True)
    with Record(folder, to_dict(settings), Role(prints=False)) as run:
        run.describe(data, model)
        built = build_trainer(settings, run, [*others, EpochWeights(folder)])
        built.fit(model, data, ckpt_path=checkpoint_to_resume(run, model, data) if run.is_resumed else None)
    return built


class Interruption(Exception):
    """Raised to interrupt a run."""


class InterruptAt(Callback):
    """Interrupt a run at the start of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
        if trainer.global_step == self.step:
            raise Interruption

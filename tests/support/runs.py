"""Read the files of a run, and train in the process of the test."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import Logger

from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.page.epochs import RunPage
from timemachine.run.checkpoints import AtomicCheckpointIO, ExactResume, Interruptible, last_checkpoint
from timemachine.run.progress import silence
from timemachine.run.recorder import Recorder, ValidateLastStep
from timemachine.run.run import Run
from timemachine.run.summary import new_summary
from timemachine.run.weights import class_name


def epochs(folder: Path) -> int:
    """Return the number of rows of metrics.csv, even while it is being written."""
    path = folder / "metrics.csv"
    return path.read_text().count("\n") - 1 if path.exists() else 0


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def rows(path: Path) -> list[dict[str, float]]:
    """Return the numbers of a table without empty cells, or no rows if there is no table."""
    found = table(path) if path.exists() else []
    return [{name: float(value) for name, value in row.items() if value} for row in found]


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def tables_and_weights(folder: Path) -> dict[str, Any]:
    """Return the tables of a run, without its speed, and its weights, to compare them bit for bit."""
    epochs = [{k: v for k, v in row.items() if k != "chars_per_second"} for row in table(folder / "metrics.csv")]
    checkpoints = {}
    for path in sorted((folder / "checkpoints").glob("*.ckpt")):  # there is no best checkpoint without validation
        state = torch.load(path, weights_only=True)
        checkpoints[path.name] = {k: v.tolist() for k, v in state["state_dict"].items()}
        of_page = state["callbacks"].get("RunPage", {"weights": {}})["weights"]
        checkpoints[path.name] |= {f"{epoch}": [w.tolist() for w in named.values()] for epoch, named in of_page.items()}
    return {"steps": (folder / "steps.csv").read_text(), "epochs": epochs, "checkpoints": checkpoints}


def fit(
    folder: Path,
    model: RNNLMScratch,
    data: TimeMachine,
    others: Sequence[Callback] = (),
    logger: Logger | bool = False,
    **arguments: Any,
) -> pl.Trainer:
    """Train like train.py on the CPU, resuming from the last checkpoint if there is one. `arguments`: the Trainer's."""
    given: dict[str, Any] = {"accelerator": "cpu", "devices": 1, "max_epochs": 100, "gradient_clip_val": 1} | arguments
    settings = {"seed": data.seed, "model": {"_target_": class_name(type(model))} | dict(model.hparams)}
    settings |= {"data": {"_target_": class_name(type(data))} | dict(data.hparams), "trainer": given}
    silence()
    checkpoints = folder / "checkpoints"
    places: Any = {"dirpath": checkpoints, "save_on_train_epoch_end": True, "enable_version_counter": False}
    callbacks = [
        RunPage(), ExactResume(), Interruptible(), ValidateLastStep(), *others,
        ModelCheckpoint(filename="best", monitor="val/perplexity", **places),
        ModelCheckpoint(filename="last", **places),
    ]  # fmt: skip
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    with Run(folder, new_summary(settings, [], "none")) as run:
        run.prints = False
        checkpoint, recorder = last_checkpoint(run, data), Recorder(run, {})
        built = pl.Trainer(
            callbacks=[*callbacks, recorder], logger=logger, plugins=[AtomicCheckpointIO()],
            default_root_dir=folder,
            **quiet | {"num_sanity_val_steps": 0, "log_every_n_steps": 1} | given,
        )  # fmt: skip
        built.fit(model, data, ckpt_path=checkpoint, weights_only=True)
        recorder.finish(built)
    return built


class Interruption(Exception):
    """Raised to interrupt a run."""


class InterruptAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
        if trainer.global_step == self.step:
            raise Interruption

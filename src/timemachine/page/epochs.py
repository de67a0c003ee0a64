"""Write a run's page, and epochs.safetensors: its weights after some epochs, for the slider of the page."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import safetensors.torch
import torch
from lightning.pytorch.callbacks import Callback
from safetensors import safe_open
from torch import Tensor

from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.page import MAX_BYTES, Epoch, check_model, make_page, size_of
from timemachine.run.files import relative_path, write_whole
from timemachine.run.record import Record, with_class_defaults
from timemachine.run.rows import read_numbers

EPOCH_WEIGHTS = "epochs.safetensors"  # in a run's folder
SAVED_EPOCHS = (0, 1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)  # 0: before training
Weights = dict[str, Tensor]


def in_half_precision(model: RNNLMScratch) -> Weights:
    """Return a model's weights in half precision, on the CPU."""
    return {name: weight.detach().cpu().half() for name, weight in model.named_parameters()}


def write_weights(folder: Path, weights: dict[int, Weights]) -> None:
    """Write the weights of epochs, except for weights out of the range of half precision. Raises OSError."""
    finite = {
        epoch: named for epoch, named in weights.items() if all(weight.isfinite().all() for weight in named.values())
    }
    tensors = {f"{epoch}/{name}": weight for epoch, named in finite.items() for name, weight in named.items()}
    write_whole(folder / EPOCH_WEIGHTS, safetensors.torch.save(tensors))


def read_weights(folder: Path) -> dict[int, Weights]:
    """Return the saved weights by epoch, in ascending order; {} if the file is missing or damaged."""
    weights: dict[int, Weights] = {}
    try:
        with safe_open(folder / EPOCH_WEIGHTS, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is not a dict)
                epoch, _, name_in_model = name.partition("/")
                weights.setdefault(int(epoch), {})[name_in_model] = file.get_tensor(name)
    except Exception:  # a damaged file may raise any exception
        return {}
    return dict(sorted(weights.items()))


def read_epochs(folder: Path) -> list[Epoch]:
    """Return the epochs with saved weights, with their perplexities from metrics.csv."""
    numbers: dict[float, dict[str, float]] = {}
    for row in read_numbers(folder / "metrics.csv"):  # several per epoch with trainer.val_check_interval
        measured = {name: value for name, value in row.items() if value == value}
        numbers.setdefault(row["epoch"], {}).update(measured)

    def number(epoch: int, name: str) -> float:
        return numbers.get(epoch, {}).get(f"{name}/perplexity", torch.nan)

    saved = read_weights(folder)
    return [Epoch(epoch, weights, number(epoch, "train"), number(epoch, "val")) for epoch, weights in saved.items()]


class RunPage(Callback):
    """Write page.html when a run has ended, and before that the weights of the epochs in `SAVED_EPOCHS` for its slider.

    They are written before the epoch's checkpoint, so that none are missing if a run is killed and resumed; none if the
    page would exceed its size limit. Jobs of a sweep have no page.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the initial weights; when resuming, remove epochs after the checkpoint."""
        if not trainer.is_global_zero:
            return
        if trainer.current_epoch == 0:
            self._keep(0, {}, pl_module)
            return
        weights = read_weights(self.folder)
        before = {epoch: weights[epoch] for epoch in weights if epoch <= trainer.current_epoch}
        if len(before) < len(weights):
            write_weights(self.folder, before)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the weights if the epoch is in `SAVED_EPOCHS`."""
        if (epoch := trainer.current_epoch + 1) in SAVED_EPOCHS and trainer.is_global_zero:
            self._keep(epoch, read_weights(self.folder), pl_module)

    def log_results(self, run: Record, trainer: pl.Trainer) -> str:
        """Write the page; return a line with its path, "" if the model is no RNNLMScratch."""
        model, data = trainer.lightning_module, trainer.datamodule  # type: ignore[attr-defined]
        if run.is_job or not isinstance(model, RNNLMScratch):
            return ""
        return write_page(self.folder, model, data, with_class_defaults(run.summary))

    def _keep(self, epoch: int, weights: dict[int, Weights], model: Any) -> None:
        with suppress(SettingError):
            check_model(model)  # also rejects a user's own model
            if size_of(model, len(SAVED_EPOCHS)) <= MAX_BYTES:
                write_weights(self.folder, weights | {epoch: in_half_precision(model)})


def write_page(folder: Path, model: RNNLMScratch, data: TimeMachine, summary: dict[str, Any]) -> str:
    """Write page.html to a run's folder. Return a line with its path, or why there is no page. Raises OSError."""
    try:
        page = make_page(model, data.vocab, summary, read_epochs(folder), data.corpus.characters)
    except SettingError as error:
        return f"page          none: {error}"
    write_whole(folder / "page.html", page)
    return f"page          {relative_path(folder / 'page.html')}"

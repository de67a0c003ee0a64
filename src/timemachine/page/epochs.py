"""Keep a run's weights after some epochs in its checkpoint, for the slider of its page, and write the page."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.page import MAX_BYTES, Epoch, check_model, make_page, size_of
from timemachine.run.files import relative_path, write_whole
from timemachine.run.record import LAST, Record, with_class_defaults
from timemachine.run.rows import read_numbers

SAVED_EPOCHS = (0, 1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)  # 0: before training
Weights = dict[str, Tensor]


def in_half_precision(model: RNNLMScratch) -> Weights:
    """Return a model's weights in half precision, on the CPU."""
    return {name: weight.detach().cpu().half() for name, weight in model.named_parameters()}


def read_weights(folder: Path) -> dict[int, Weights]:
    """Return the weights of the saved epochs in a run's last.ckpt; {} without it."""
    if not (folder / LAST).exists():
        return {}
    states = torch.load(folder / LAST, map_location="cpu", weights_only=True)["callbacks"]
    weights: dict[int, Weights] = states.get(RunPage.__qualname__, {}).get("weights", {})
    return weights


def with_perplexities(saved: dict[int, Weights], folder: Path) -> list[Epoch]:
    """Return the saved epochs with their perplexities from metrics.csv."""
    numbers: dict[float, dict[str, float]] = {}
    for row in read_numbers(folder / "metrics.csv"):  # several per epoch with trainer.val_check_interval
        measured = {name: value for name, value in row.items() if value == value}
        numbers.setdefault(row["epoch"], {}).update(measured)

    def number(epoch: int, name: str) -> float:
        return numbers.get(epoch, {}).get(f"{name}/perplexity", torch.nan)

    return [Epoch(epoch, weights, number(epoch, "train"), number(epoch, "val")) for epoch, weights in saved.items()]


class RunPage(Callback):
    """Keep the weights of the epochs in `SAVED_EPOCHS`, and write page.html with them when a run has ended.

    They are a part of each checkpoint. None are kept if the page would exceed its size limit, or where they exceed the
    range of half precision. Jobs of a sweep have no page.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder, self.weights = Path(folder), dict[int, Weights]()

    def state_dict(self) -> dict[str, Any]:
        """Return the saved weights."""
        return {"weights": dict(self.weights)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the saved weights."""
        self.weights = dict(state_dict["weights"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the initial weights."""
        if trainer.global_step == 0:
            self._keep(0, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights if the epoch is in `SAVED_EPOCHS`."""
        if (epoch := trainer.current_epoch + 1) in SAVED_EPOCHS:
            self._keep(epoch, pl_module)

    def log_results(self, run: Record, trainer: pl.Trainer) -> str:
        """Write the page; return a line with its path, "" if the model or the data are a user's."""
        model, data = trainer.lightning_module, trainer.datamodule  # type: ignore[attr-defined]
        if run.is_job or not (isinstance(model, RNNLMScratch) and isinstance(data, TimeMachine)):
            return ""
        return write_page(self.folder, model, data, with_class_defaults(run.summary), self.weights)

    def _keep(self, epoch: int, model: Any) -> None:
        with suppress(SettingError):
            check_model(model)  # also rejects a user's own model
            weights = in_half_precision(model)
            if size_of(model, len(SAVED_EPOCHS)) <= MAX_BYTES and all(w.isfinite().all() for w in weights.values()):
                self.weights[epoch] = weights


def write_page(
    folder: Path, model: RNNLMScratch, data: TimeMachine, summary: dict[str, Any], saved: dict[int, Weights]
) -> str:
    """Write page.html to a run's folder. Return a line with its path, or why there is no page. Raises OSError."""
    try:
        page = make_page(model, data.vocab, summary, with_perplexities(saved, folder), data.corpus.characters)
    except SettingError as error:
        return f"page          none: {error}"
    write_whole(folder / "page.html", page)
    return f"page          {relative_path(folder / 'page.html')}"

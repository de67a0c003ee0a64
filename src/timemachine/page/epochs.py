"""Write a run's page, with its weights after some epochs for the slider of the page."""

import math
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.page import MAX_BYTES, Epoch, check_model, make_page, size_of
from timemachine.run.files import relative_path, write_whole
from timemachine.run.run import Run, load_run

SAVED_EPOCHS = (0, 1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)  # 0: before training
Weights = dict[str, Tensor]


class RunPage(Callback):
    """Write page.html when a run has ended, with the weights of the epochs in `SAVED_EPOCHS` for its slider.

    These weights are a part of each checkpoint, as the state of this callback; there are none if the page would exceed
    its size limit. Jobs of a sweep have no page.
    """

    def __init__(self) -> None:
        self.weights = dict[int, Weights]()

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

    def log_results(self, run: Run, trainer: pl.Trainer) -> str:
        """Write the page; return a line with its path, or why there is none; "" for a user's own model."""
        model, data = trainer.lightning_module, trainer.datamodule  # type: ignore[attr-defined]
        if run.is_job or not isinstance(model, RNNLMScratch):
            return ""
        epochs = with_perplexities(self.weights, run.curves)
        try:
            page = make_page(model, data.vocab, dict(run.summary), epochs, data.corpus.characters)
        except SettingError as error:
            return f"page          none: {error}"
        run.write("page.html", page)
        return f"page          {relative_path(run.folder / 'page.html')}"

    def _keep(self, epoch: int, model: Any) -> None:
        with suppress(SettingError):
            check_model(model)  # also rejects a user's own model
            weights = in_half_precision(model)
            if size_of(model, len(SAVED_EPOCHS)) <= MAX_BYTES and all(w.isfinite().all() for w in weights.values()):
                self.weights[epoch] = weights


def in_half_precision(model: RNNLMScratch) -> Weights:
    """Return a model's weights in half precision, on the CPU."""
    return {name: weight.detach().cpu().half() for name, weight in model.named_parameters()}


def with_perplexities(saved: Mapping[int, Weights], rows: Sequence[Mapping[str, float]]) -> list[Epoch]:
    """Return the saved epochs with their perplexities. `rows`: of metrics.csv."""
    numbers: dict[float, dict[str, float]] = {}
    for row in rows:  # several per epoch with trainer.val_check_interval
        measured = {name: value for name, value in row.items() if not math.isnan(value)}
        numbers.setdefault(row["epoch"], {}).update(measured)

    def number(epoch: int, name: str) -> float:
        return numbers.get(epoch, {}).get(f"{name}/perplexity", math.nan)

    return [Epoch(epoch, weights, number(epoch, "train"), number(epoch, "val")) for epoch, weights in saved.items()]


def read_weights(run: Run) -> dict[int, Weights]:
    """Return the weights of the saved epochs in a run's last.ckpt; {} without it."""
    if not run.last_checkpoint.exists():
        return {}
    states = torch.load(run.last_checkpoint, map_location="cpu", weights_only=True)["callbacks"]
    weights: dict[int, Weights] = states.get(RunPage.__qualname__, {}).get("weights", {})
    return weights


def page_of(path: Path) -> Path:
    """Write the page of a run's folder, or of a model.safetensors next to it; return its path. Raises UserError."""
    if path.suffix == ".ckpt":  # a page shows the numbers of a run's last epoch
        raise SettingError(f"{path}: use a run's folder, or its model.safetensors")
    run = load_run(path)
    target, epochs, text = path.with_suffix(".html"), list[Epoch](), ""
    model = run.model  # fails for a run without one
    if path.is_dir():
        target, epochs = path / "page.html", with_perplexities(read_weights(run), run.curves)
        try:
            text = run.data.corpus.characters
        except SettingError as error:
            print(f"The page has no text to train on: {error}", file=sys.stderr)
    write_whole(target, make_page(model, run.vocab, dict(run.summary), epochs, text))
    return target

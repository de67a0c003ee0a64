"""The recurrence over training: `probes=[dynamics]` writes dynamics.csv, a row an epoch, into the run's folder.

B windows, T time steps, H hidden units.
"""

import csv
import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from timemachine.datamodule import TimeMachine
from timemachine.files import write_whole
from timemachine.language_model import Diverged, RNNLMScratch

WINDOWS = 160  # of the validation split at most, spread over it: at the book's sizes they hold each character once
SATURATED = 0.99  # |h| from which on tanh passes on less than 2 % of a gradient
COLUMNS = ("epoch", "spectral_radius", "largest_activation", "dead_share", "saturated_share")


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, float]:
    """Of the model as it is, on a fixed batch of validation windows, each from a zero state; NaN where undefined.

    `spectral_radius`: largest |eigenvalue| of W_hh. `largest_activation`: largest |h|. `dead_share`: of the hidden
    units, those that are exactly 0 at every position. `saturated_share`: those with |h| > 0.99 at every position, of
    tanh only.
    """
    rnn = model.rnn
    with torch.no_grad():
        inputs_BT = _windows(data).to(rnn.W_hh.device)
        H_TBH, _ = rnn(inputs_BT.T if model.embedding is None else model.embedding[inputs_BT.T])
        size_NH = H_TBH.flatten(0, 1).abs()
        largest = float(size_NH.max())  # NaN where any is
        dead = float((size_NH == 0).all(0).float().mean())
        saturated = float((size_NH > SATURATED).all(0).float().mean())
    known = not math.isnan(largest)
    return {
        "spectral_radius": spectral_radius(rnn.W_hh),
        "largest_activation": largest,
        "dead_share": dead if known else math.nan,
        "saturated_share": saturated if known and rnn.activation == "tanh" else math.nan,
    }


def spectral_radius(W_HH: Tensor) -> float:
    """Largest |eigenvalue|; NaN where an entry is not finite, which `eigvals` refuses."""
    W_HH = W_HH.detach().cpu().double()
    return float(torch.linalg.eigvals(W_HH).abs().max()) if W_HH.isfinite().all() else math.nan


def _windows(data: TimeMachine) -> Tensor:
    """Inputs (B, T), int64, of up to 160 validation windows in equal distances."""
    starts = data.splits["val"].starts
    starts_B = torch.tensor(starts[:: -(-len(starts) // WINDOWS)])
    return data.chars_N.cpu()[starts_B[:, None] + torch.arange(data.num_steps)].long()


class Dynamics(Callback):
    """Writes what `measure` gives before training (epoch 0) and after each epoch.

    A run that diverges has a last row under the epoch that broke off: the weights before the update that was refused.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "dynamics.csv"
        self._last_epoch = -1  # written
        self._before: list[str] = []  # lines of a run that goes on

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on where the checkpoint was saved: drop what came after it, or was cut short."""
        self._last_epoch = checkpoint["epoch"] + 1
        rows = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
        before = [row for row in rows[1:] if row.endswith("\n") and int(row.split(",")[0]) <= self._last_epoch]
        self._before = rows[:1] + before

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the table with the initial weights, or where it goes on."""
        if not trainer.is_global_zero:
            return
        write_whole(self.path, "".join(self._before).encode())
        if self._last_epoch < 0:
            self._write(trainer, pl_module, 0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row."""
        self._write(trainer, pl_module, trainer.current_epoch + 1)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Add the row of the epoch in which training diverged."""
        if isinstance(exception, Diverged):
            self._write(trainer, pl_module, trainer.current_epoch + 1)

    def _write(self, trainer: pl.Trainer, model: pl.LightningModule, epoch: int) -> None:
        if not trainer.is_global_zero or epoch == self._last_epoch:
            return
        assert isinstance(model, RNNLMScratch)
        self._last_epoch = epoch
        row = {"epoch": epoch, **measure(model, trainer.datamodule)}  # type: ignore[attr-defined]
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if not file.tell():
                writer.writeheader()
            writer.writerow(row)

"""Exercise 4: adjust the hyperparameters. How low can you go?

Measured: a run after an eighth, a quarter, half and all of its updates.
"""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import WARM_UP
from timemachine.exercises.stream import parts
from timemachine.language_model import RNNLMScratch

SHARES = (8, 4, 2, 1)  # of a run's updates, after which it is measured: an eighth to all
STREAMS = 32  # that are read side by side


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, dict[str, float]]:
    """Return what `Milestones` has measured while the model trained."""
    (milestones,) = (it for it in model.trainer.callbacks if isinstance(it, Milestones))  # type: ignore[attr-defined]
    return milestones.nats


def callback(folder: Path) -> Callback:
    """Return the callback that measures."""
    return Milestones()


class Milestones(Callback):
    """Measures nats a character, after each share of the updates, of validation text and rest: `nats["500"]["val"]`."""

    def __init__(self) -> None:
        self.nats: dict[str, dict[str, float]] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint has to say."""
        return {"nats": self.nats}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the numbers of the run that was interrupted."""
        self.nats = state_dict["nats"]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Measure the model if a share of its updates is done."""
        if trainer.global_step in {trainer.estimated_stepping_batches // share for share in SHARES}:
            targets = parts(trainer.datamodule)  # type: ignore[attr-defined]
            chars_N = trainer.datamodule.chars_N  # type: ignore[attr-defined]
            self.nats[str(trainer.global_step)] = {
                name: float(stream_nll(pl_module, chars_N, targets[name]).mean()) for name in ("val", "test")
            }


@torch.no_grad()
def stream_nll(model: Any, chars_N: Tensor, targets: range) -> Tensor:
    """Return the targets' negative log-likelihoods (N,), float64, in nats: 32 streams, each warmed on 512 characters.

    One stream, as in `evaluation.scores`, is read 16 times as slowly, and this model forgets within far less.
    """
    length = -(-len(targets) // STREAMS)
    text_N = F.pad(chars_N[targets.start - 1 - WARM_UP : targets.stop], (0, STREAMS * length - len(targets)))
    windows_BT = text_N.unfold(0, WARM_UP + length + 1, length).long()
    nll_BT: Tensor = model.nll((windows_BT[:, :-1], windows_BT[:, 1:]))
    return nll_BT[:, WARM_UP:].flatten()[: len(targets)].double()

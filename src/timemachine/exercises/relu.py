"""Exercise 10: replace tanh by ReLU. Do we still need to clip the gradient, and why?

Measured: the recurrence before training, in dynamics.csv of the run's folder, and at the end, with what the model
writes. B windows, T time steps, H hidden units.
"""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

from timemachine.datamodule import TimeMachine
from timemachine.decoding import continue_text
from timemachine.exercises import Findings
from timemachine.exercises.jobs import Job
from timemachine.language_model import RNNLMScratch
from timemachine.runs.files import write_whole

WRITTEN, SHOWN = 1000, 100  # characters that a model writes, and that are kept


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return `recurrence`, and how the model continues "it has": greedily, and by a sample from P.

    `period`: of the loop in which 1,000 greedy characters end, 0 if they end in none.
    """
    greedy, sample = (continue_text(model, data.vocab, "it has", WRITTEN, alpha)[0] for alpha in (None, 1.0))
    return recurrence(model, data) | {"period": period(greedy), "greedy": greedy[:SHOWN], "sample": sample[:SHOWN]}


def recurrence(model: RNNLMScratch, data: TimeMachine) -> dict[str, float]:
    """Measure the recurrence as it is on all of the validation text, in windows from a zero state.

    `spectral_radius`: ρ, the largest |eigenvalue| of W_hh. `growth`: the mean length of a window's last state, in
    multiples of that of its first. `dead_share`: of the hidden units, those that are exactly 0 at every position.
    """
    starts_B = torch.tensor(data.splits["val"].starts[:: data.num_steps])
    X_BT = data.chars_N.cpu()[starts_B[:, None] + torch.arange(data.num_steps)].long()
    rnn = model.rnn
    with torch.no_grad():
        H_TBH = rnn(model.inputs(X_BT.to(rnn.W_hh.device)))[0].double()
        lengths_T = H_TBH.norm(dim=2).mean(1)
        return {
            "spectral_radius": float(torch.linalg.eigvals(rnn.W_hh.cpu().double()).abs().max()),
            "growth": float(lengths_T[-1] / lengths_T[0]),
            "dead_share": float((H_TBH == 0).all(0).all(0).double().mean()),
        }


def period(text: str) -> int:
    """Return the length of the shortest part that a text ends with three times over, 0 if there is none."""
    lengths = range(1, len(text) // 3 + 1)
    return next((n for n in lengths if text[-3 * n : -n] == text[-2 * n :]), 0)


def callback(folder: Path) -> Callback:
    """Return the callback that writes dynamics.csv into the run's folder."""
    return Start(folder / "dynamics.csv")


class Start(Callback):
    """A table of one row: what `recurrence` returns before training. A run that diverges has it, too."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the table, unless the run goes on from a checkpoint."""
        assert isinstance(pl_module, RNNLMScratch)
        if trainer.is_global_zero and not trainer.global_step:
            row = recurrence(pl_module, trainer.datamodule)  # type: ignore[attr-defined]
            write_whole(self.path, f"{','.join(row)}\n{','.join(map(repr, row.values()))}\n".encode())


def findings(jobs: list[Job]) -> Findings:
    """Report."""
    return Findings(columns=[], rows=[])

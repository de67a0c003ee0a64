"""The probe of the recall corpus: models whose accuracy is known."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor

from tests.support.runs import fit
from timemachine.datamodule import TimeMachine
from timemachine.exercises import recall
from timemachine.language_model import RNNLMScratch
from timemachine.regularized.language_model import RegularizedRNNLM


class Remembering(RNNLMScratch):
    """Predicts the token this many steps back; an `RNNLMScratch` cannot be written down with these weights."""

    steps_back = 0

    def forward(self, X_BT: Tensor, state_BS: Tensor | None = None) -> tuple[Tensor, Any]:
        """Return logits (B, T, V) that are one-hot."""
        return self.one_hot(X_BT.roll(self.steps_back, 1)).transpose(0, 1), None


@pytest.mark.parametrize(("start", "delay"), [(0, 5), (7, 5), (123_456, 30)])
def test_accuracy_at_recalled_letters(start: int, delay: int) -> None:
    data = TimeMachine(32, 2 * delay + 1, None, None, start, corpus=f"recall_{delay}")
    model = Remembering(len(data.vocab))
    model.steps_back = delay - 1
    assert recall.measure(model, data) == {"accuracy": 1}
    model.steps_back = delay - 2  # a filler
    assert recall.measure(model, data) == {"accuracy": 0}
    torch.manual_seed(0)
    accuracy = recall.measure(RNNLMScratch(len(data.vocab)), data)["accuracy"]
    assert accuracy < 0.12  # chance is 1/16 for one of the letters, 0 for other characters


def test_training_stops_once_the_letters_are_right(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = TimeMachine(16, 7, 2000, 200, corpus="recall_3")
    model = RegularizedRNNLM(len(data.vocab), hiddens=24, cell="gru", lr=0.03, optimizer="adamw")
    stopping = EarlyStopping("val/recall", mode="max", stopping_threshold=0.9, patience=100)
    trainer = fit(tmp_path, model, data, [recall.callback(), stopping], max_epochs=-1, max_steps=1000,
                  val_check_interval=25, check_val_every_n_epoch=None)  # fmt: skip
    assert trainer.global_step < 1000 and trainer.global_step % 25 == 0
    assert recall.accuracy(model, data, "val") == pytest.approx(float(trainer.callback_metrics["val/recall"]))
    assert recall.accuracy(model, data, "val") > 0.9 and recall.measure(model, data)["accuracy"] > 0.8

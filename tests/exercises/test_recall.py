"""The probe of the recall corpus: models whose accuracy is known."""

from typing import Any

import pytest
import torch
from torch import Tensor

from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.exercises import probes, recall
from timemachine.language_model import RNNLMScratch


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


@pytest.mark.parametrize("settings", [{"corpus": "sample"}, {"corpus": "recall", "tokens": "bpe", "vocab_size": 256}])
def test_recall_requires_its_corpus(settings: dict[str, Any]) -> None:
    data = TimeMachine(32, 4, 100, 10, **settings)
    with pytest.raises(SettingError, match=r"^probes=\[recall\]: recall requires data\.[^\n]*$"):
        probes.load(["recall"], data, RNNLMScratch(len(data.vocab)))

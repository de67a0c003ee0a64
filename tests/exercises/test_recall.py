"""The probe of the recall corpus: models whose accuracy is known."""

from typing import Any

import pytest
import torch
from pandas import DataFrame
from torch import Tensor

from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.exercises import recall
from timemachine.language_model import RNNLMScratch
from timemachine.study.probes import load_probes


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
        load_probes(["recall"], data, RNNLMScratch(len(data.vocab)))


def test_table_has_the_best_rate_of_each_delay() -> None:
    runs = DataFrame(
        {"status": "completed", "seed": seed, "data.start": 0, "data.corpus": f"recall_{delay}", "parameters": 800,
         "data.num_steps": 2 * delay + 1, "trainer.max_steps": 100, "model.optimizer": "adamw",
         "model.schedule": "constant", "model.cell": cell, "model.hiddens": 6, "model.lr": rate,
         "model.input_lr_factor": factor, "model.sigma_xh": scale, "val/perplexity": 6 + (rate - best) ** 2,
         "recall/accuracy": 1.0 if rate == best else 0.5}
        for delay, best in ((4, 0.01), (16, 0.1))
        for cell in ("rnn", "gru")
        for factor, scale in ((1, None), (10, None), (1, 1.0))
        for rate in (0.01, 0.1)
        for seed in (0, 1)
    )  # fmt: skip
    rows = recall.table(runs).reset_index()
    assert len(rows) == 12 and (rows["accuracy"] == 1).all() and (rows["of each seed"] == "1.00, 1.00").all()
    assert (rows["rate"] == rows["delay"].map({4: 0.01, 16: 0.1})).all()
    assert recall.figure(runs).axes

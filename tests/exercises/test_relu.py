"""Exercise 10: the initial recurrent weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.runs import fit
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.exercises.relu import RecurrentWeights
from timemachine.language_model import RNNLMScratch


def test_initial_spectral_radius(sample: Corpus, tmp_path: Path) -> None:
    """The radius is set before the first step and not again in a resumed run; null leaves the weights."""
    data, folder = TimeMachine(64, 8, 128, 64, corpus=sample), tmp_path / "run"
    model = RNNLMScratch(len(data.vocab), hiddens=6, lr=1e-12)
    before_HH = model.rnn.W_hh.detach().clone()

    def radius(W_HH: Tensor) -> float:
        return float(torch.linalg.eigvals(W_HH.detach().double()).abs().max())

    fit(folder, model, data, [RecurrentWeights(None)], max_epochs=1)
    assert model.rnn.W_hh.equal(before_HH)
    fit(tmp_path / "scaled", model, data, [RecurrentWeights(1.2)], max_epochs=1)
    assert radius(model.rnn.W_hh) == pytest.approx(1.2, rel=1e-5)
    torch.testing.assert_close(model.rnn.W_hh / 1.2, before_HH / radius(before_HH))
    fit(tmp_path / "scaled", model, data, [RecurrentWeights(0.3)], max_epochs=2)
    assert radius(model.rnn.W_hh) == pytest.approx(1.2, rel=1e-5)
    fit(tmp_path / "identity", model, data, [RecurrentWeights("identity")], max_epochs=1)
    torch.testing.assert_close(model.rnn.W_hh.detach(), torch.eye(6))
    with pytest.raises(SettingError, match=r"callbacks\.recurrent_weights\.initial=orthogonal: .*identity"):
        RecurrentWeights("orthogonal")

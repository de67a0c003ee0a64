"""Exercise 4: measurements during training, and the table of settings."""

from pathlib import Path

import pytest

from tests.support.runs import fit
from timemachine.datamodule import TimeMachine
from timemachine.evaluation import scores
from timemachine.exercises import hyperparameters
from timemachine.language_model import RNNLMScratch


def test_shares_of_a_resumed_run(tmp_path: Path) -> None:
    data, folder = TimeMachine(64, 4, 2_000, 1_000, corpus="sample"), tmp_path / "run"
    for max_epochs in (1, 2):  # of 32 updates each
        model = RNNLMScratch(28, hiddens=4)
        fit(folder, model, data, [hyperparameters.callback()], max_steps=64, max_epochs=max_epochs)
        nats = hyperparameters.measure(model, data)
    assert [*nats] == ["4", "8", "16", "32", "64"]  # the first run ends at update 32
    for part, value in nats["64"].items():
        nll_N = scores.stream_nll(model, data.tokens_N, data.splits[part].targets)
        assert value == pytest.approx(nll_N.mean().item(), abs=1e-6)
    assert nats["4"]["val"] > nats["64"]["val"]

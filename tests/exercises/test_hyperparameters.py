"""Exercise 4: measurements during training."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.runs import fit
from timemachine.datamodule import TimeMachine
from timemachine.evaluation import scores
from timemachine.exercises import hyperparameters
from timemachine.exercises.stream import parallel_nll, parts
from timemachine.language_model import RNNLMScratch


class Noisy(RNNLMScratch):
    """An RNN with dropout in training."""

    def output_layer(self, H_TBH: Tensor) -> Tensor:
        return super().output_layer(torch.nn.functional.dropout(H_TBH, 0.5, self.training))


def test_parallel_streams_equal_one() -> None:
    torch.manual_seed(0)
    model, tokens_N = Noisy(28, hiddens=8, sigma=0.3), torch.randint(28, (3_000,))
    targets = range(700, 2_995)  # 2,295 targets, not a multiple of 32
    nll_N = parallel_nll(model, tokens_N, targets)
    torch.testing.assert_close(nll_N, scores.stream_nll(model.eval(), tokens_N, targets), rtol=1e-5, atol=1e-5)


def test_shares_of_a_resumed_run(tmp_path: Path) -> None:
    data, folder = TimeMachine(64, 4, 2_000, 1_000, corpus="sample"), tmp_path / "run"
    for max_epochs in (1, 2):  # of 32 updates each
        model = RNNLMScratch(28, hiddens=4)
        fit(folder, model, data, [hyperparameters.callback()], max_steps=64, max_epochs=max_epochs)
        nats = hyperparameters.measure(model, data)
    assert [*nats] == ["4", "8", "16", "32", "64"]  # the first run ends at update 32
    for part, value in nats["64"].items():
        nll_N = scores.stream_nll(model, data.tokens_N, parts(data)[part])
        assert value == pytest.approx(nll_N.mean().item(), abs=1e-6)
    assert nats["4"]["val"] > nats["64"]["val"]

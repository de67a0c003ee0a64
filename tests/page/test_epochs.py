"""Weights of early epochs: the epochs that are saved, the runs that save them, and damaged files."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.runs import InterruptAt, fit
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.page.epochs import in_half_precision, read_epochs, read_weights, write_weights
from timemachine.run.checkpoint import read_checkpoint
from timemachine.run.record import EPOCH_WEIGHTS
from timemachine.run.rows import read_numbers


@pytest.fixture
def train(sample: Corpus, tmp_path: Path) -> Callable[..., RNNLMScratch]:
    """Train for some epochs of 3 steps, resuming from the last checkpoint if there is one, and return the model."""

    def trained(max_epochs: int, interrupt_at: int | None = None) -> RNNLMScratch:
        torch.manual_seed(0)
        data, model = TimeMachine(32, 4, 96, 40, corpus=sample), RNNLMScratch(28, hiddens=4)
        interruption = [] if interrupt_at is None else [InterruptAt(interrupt_at)]
        fit(tmp_path / "run", model, data, interruption, max_epochs=max_epochs)
        return model

    return trained


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(weight.dtype == torch.float16 and torch.equal(weight, expected[name]) for name, weight in found.items())


def test_kept_weights_are_the_checkpoints(train: Callable[..., RNNLMScratch], tmp_path: Path) -> None:
    torch.manual_seed(0)
    expected = {0: in_half_precision(RNNLMScratch(28, hiddens=4))}
    for epoch in (1, 2, 5, 6, 10):
        train(epoch)
        weights = read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["state_dict"]
        expected[epoch] = {name: weight.half() for name, weight in weights.items()}
    kept, rows = read_epochs(tmp_path / "run"), read_numbers(tmp_path / "run/metrics.csv")
    assert [it.number for it in kept] == [0, 1, 5, 10]
    for it in kept:
        assert_same(it.weights, expected[int(it.number)])
    assert math.isnan(kept[0].train) and math.isnan(kept[0].val)
    assert [(it.train, it.val) for it in kept[1:]] == [
        (rows[int(it.number) - 1]["train/perplexity"], rows[int(it.number) - 1]["val/perplexity"]) for it in kept[1:]
    ]


def test_unreadable_weights_are_left_out(tmp_path: Path) -> None:
    path, model = tmp_path / EPOCH_WEIGHTS, RNNLMScratch(28, hiddens=4)
    assert read_weights(tmp_path) == {}
    usual = in_half_precision(model)
    with torch.no_grad():
        model.W_hq[0, 0] = 65_520  # float16 overflows above 65504
    write_weights(tmp_path, {0: usual, 1: in_half_precision(model)})
    assert read_weights(tmp_path).keys() == {0}
    content = path.read_bytes()
    for damaged in (content[:-3], b"", content.replace(b'"0/', b'"x/')):
        path.write_bytes(damaged)
        assert read_weights(tmp_path) == {}

"""Weights of early epochs: the epochs that are saved, the runs that save them, and damaged files."""

import math
from pathlib import Path

import torch

from tests.support.runs import fit
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.page.epochs import EPOCH_WEIGHTS, in_half_precision, read_epochs, read_weights, write_weights
from timemachine.run.tables import read_rows
from timemachine.run.weights import load_model


def test_kept_weights_are_the_checkpoints(sample: Corpus, tmp_path: Path) -> None:
    """A run of epochs of 3 steps, which is resumed several times."""
    torch.manual_seed(0)
    model = RNNLMScratch(28, hiddens=4)
    expected = {0: in_half_precision(model)}
    for epoch in (1, 2, 5, 6, 10):
        fit(tmp_path / "run", model, TimeMachine(32, 4, 96, 40, corpus=sample), max_epochs=epoch)
        expected[epoch] = in_half_precision(load_model(tmp_path / "run")[0])
    kept, rows = read_epochs(tmp_path / "run"), read_rows(tmp_path / "run/metrics.csv")
    assert [it.number for it in kept] == [0, 1, 5, 10]
    for it in kept:
        torch.testing.assert_close(it.weights, expected[int(it.number)], rtol=0, atol=0)
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

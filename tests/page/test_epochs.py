"""Weights of early epochs: the epochs that are saved, and weights that half precision cannot hold."""

import math
from pathlib import Path

import torch

from tests.support.runs import fit
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.page.epochs import in_half_precision, read_weights, with_perplexities
from timemachine.run.run import load_run
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
    folder = tmp_path / "run"
    rows = read_rows(folder / "metrics.csv")
    kept = with_perplexities(read_weights(load_run(folder)), rows)
    assert [it.number for it in kept] == [0, 1, 5, 10]
    for it in kept:
        torch.testing.assert_close(it.weights, expected[int(it.number)], rtol=0, atol=0)
    assert math.isnan(kept[0].train) and math.isnan(kept[0].val)
    assert [(it.train, it.val) for it in kept[1:]] == [
        (rows[int(it.number) - 1]["train/perplexity"], rows[int(it.number) - 1]["val/perplexity"]) for it in kept[1:]
    ]


def test_epoch_beyond_half_precision(sample: Corpus, tmp_path: Path) -> None:
    model = RNNLMScratch(28, hiddens=4)
    with torch.no_grad():
        model.W_hq[0, 0] = 65_520  # float16 overflows above 65504
    fit(tmp_path, model, TimeMachine(32, 4, 96, 40, corpus=sample), max_epochs=1)
    assert read_weights(load_run(tmp_path)) == {}

"""Measurements on a model with an RNN and on one with an LSTM, whose state has more than its output."""

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.exercises import books, probes, sampling
from timemachine.language_model import RNNLMScratch

HIDDENS = 5


@pytest.fixture
def data(excerpt: Corpus) -> TimeMachine:
    return TimeMachine(batch_size=64, num_steps=8, num_train=100, num_val=90, corpus=excerpt)


@pytest.fixture(params=["rnn", "lstm"])
def model(request: pytest.FixtureRequest, data: TimeMachine) -> RNNLMScratch:
    """Return a model whose weights are large enough for distant characters to matter."""
    torch.manual_seed(0)
    return RNNLMScratch(len(data.vocab), HIDDENS, sigma=0.8, cell=request.param)


def test_probes(model: RNNLMScratch, data: TimeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "available_books", lambda folders, tokens: [])
    monkeypatch.setattr(sampling, "NUM_PREDS", 40)
    monkeypatch.setattr(sampling, "LENGTH", 2)
    model.trainer = pl.Trainer(logger=False, enable_checkpointing=False, default_root_dir=tmp_path, barebones=True)
    loaded = probes.load(["stream", "samples", "books", "weights", "reading"], data, RNNLMScratch(len(data.vocab)))
    found = {name: probe.measure(model.eval(), data) for name, probe in loaded.items()}
    assert set(found["stream"]) == {"train", "val", "test"}
    assert found["samples"]["sharpening"]["distances"]["1"] == pytest.approx(0, abs=1e-6)
    assert found["samples"]["sharpening"]["distances"]["2"] > 0
    (read,) = found["books"]["books"].values()
    assert read["stream"]["perplexity"] > 1
    assert set(found["weights"]["weights"]) == {name for name, _ in model.named_parameters()}
    assert set(found["reading"]) == {"train", "val", "test"}

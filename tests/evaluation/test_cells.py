"""What is measured through the model works with any cell: a GRU and an LSTM beside the RNN, against slow loops."""

import math
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.cells import GRU, LSTM
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.decoding import continue_text
from timemachine.evaluation import stream
from timemachine.evaluation.scores import stream_nll, stream_score, window_score
from timemachine.exercises import books, history, how_low, one_hot_is_embedding, probes, relu, sampling
from timemachine.how_low import dynamic_evaluation
from timemachine.how_low.dynamic_evaluation import adaptive_nll
from timemachine.how_low.ensemble import Ensemble
from timemachine.language_model import RNNLMScratch
from timemachine.rnn import CELLS

HIDDENS = 5


@pytest.fixture(autouse=True)
def _cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CELLS, "gru", GRU)
    monkeypatch.setitem(CELLS, "lstm", LSTM)


@pytest.fixture
def data(sample: Corpus, tmp_path: Path) -> TimeMachine:
    path = tmp_path / "text.txt"
    path.write_bytes(sample.characters[:900])
    return TimeMachine(batch_size=64, num_steps=8, num_train=100, num_val=90, corpus=find_corpus(str(path), []))


@pytest.fixture(params=["rnn", "gru", "lstm"])
def model(request: pytest.FixtureRequest, data: TimeMachine) -> RNNLMScratch:
    """Weights so large that what is far back still counts."""
    torch.manual_seed(0)
    return RNNLMScratch(len(data.vocab), HIDDENS, sigma=0.8, cell=request.param)


def nll_after(model: RNNLMScratch, chars: list[int], target: int) -> float:
    """-log P of a target after these characters, read at once from a zero state."""
    with torch.no_grad():
        logits_V: Tensor = model(torch.tensor([chars]))[0][0, -1]
    return float(logits_V.logsumexp(0) - logits_V[target])


def mean_perplexity(nlls: list[float]) -> float:
    return math.exp(math.fsum(nlls) / len(nlls))


def test_the_fixture_has_states_that_are_not_what_the_output_layer_reads(model: RNNLMScratch) -> None:
    _, state_BS = model(torch.zeros(3, 2, dtype=torch.long))
    assert state_BS.shape == (3, 2 * HIDDENS if isinstance(model.rnn, LSTM) else HIDDENS)


@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_scores_are_those_of_slow_loops(model: RNNLMScratch, data: TimeMachine, chunk: int) -> None:
    model, chars = model.double(), data.chars_N.tolist()
    found = stream_score(model, data.chars_N, range(40, 60), chunk).perplexity
    slow = [nll_after(model, chars[:target], chars[target]) for target in range(40, 60)]
    assert found == pytest.approx(mean_perplexity(slow), rel=1e-9)
    found = window_score(model, data.chars_N, range(10), 8, batch_size=chunk).perplexity
    slow = [nll_after(model, chars[s : s + t], chars[s + t]) for s in range(10) for t in range(1, 9)]
    assert found == pytest.approx(mean_perplexity(slow), rel=1e-9)


def test_an_ensemble_reads_and_learns(model: RNNLMScratch, data: TimeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic_evaluation, "EXPONENTS", (1.0, 0.0, 0.0))
    monkeypatch.setattr(dynamic_evaluation, "EXPONENTS_RATE", 0.0)
    model, targets = model.double(), range(40, 90)  # its state multiplies roundings
    for several in (model, Ensemble([model, model])):
        torch.testing.assert_close(stream_nll(several, data.chars_N, targets), stream_nll(model, data.chars_N, targets))
        fixed_N = adaptive_nll(several, data.chars_N, range(0), targets, 0.0)
        torch.testing.assert_close(fixed_N, stream_nll(model, data.chars_N, targets))
        assert not torch.equal(fixed_N, adaptive_nll(several, data.chars_N, range(0), targets, 0.1))


def test_every_other_measurement_has_its_numbers(
    model: RNNLMScratch, data: TimeMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "at_hand", lambda folders: [])
    monkeypatch.setattr(sampling, "NUM_PREDS", 40)
    monkeypatch.setattr(sampling, "LENGTH", 2)
    model.trainer = pl.Trainer(logger=False, enable_checkpointing=False, default_root_dir=tmp_path, barebones=True)
    found = probes.measure(["stream", "samples", "books", "weights", "reading"], model, data)
    assert set(found["stream"]) == {"train", "val", "test"}
    assert found["samples"]["sharpening"]["distances"][0] == pytest.approx(0, abs=1e-6)
    assert found["samples"]["sharpening"]["distances"][1] > 0
    (read,) = found["books"]["books"].values()
    assert read["stream"]["perplexity"] > 1
    assert set(found["weights"]["weights"]) == {name for name, _ in model.named_parameters()}
    assert set(np.load(tmp_path / "reading.npz")) >= {"val", "val_adaptive", "test", "test_adaptive"}


def test_a_greedy_text_is_the_models_own(model: RNNLMScratch, data: TimeMachine) -> None:
    (text,) = continue_text(model, data.vocab, "the ", 30)
    assert text == model.predict("the ", 30, data.vocab)


def test_each_measurement_is_tried_here() -> None:
    tried = {stream, sampling, books, one_hot_is_embedding, how_low} | {history}  # in test_history.py
    of_any_cell = {f"timemachine.{name}" for name in probes.PROBES.values()} - {relu.__name__}
    assert {module.__name__ for module in tried} == of_any_cell

"""Scores, compared with slow loops over one target at a time."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from timemachine.corpus import Corpus, find_corpus
from timemachine.errors import SettingError
from timemachine.evaluation import scores
from timemachine.evaluation.scores import evaluate, score, stream_nll, window_score
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab

NUM_STEPS = 4


@pytest.fixture
def vocab(excerpt: Corpus) -> Vocab:
    return Vocab.of(excerpt.characters)


@pytest.fixture
def encoded(excerpt: Corpus, vocab: Vocab) -> Tensor:
    return vocab.encode(excerpt.characters)


@pytest.fixture
def model(vocab: Vocab) -> RNNLMScratch:
    """Return a model with a long memory, so that its predictions depend on where its state starts."""
    torch.manual_seed(0)
    model = RNNLMScratch(len(vocab), hiddens=8, activation="relu").double()
    with torch.no_grad():
        model.get_parameter("rnn.W_xh").uniform_(0, 0.1)
        model.get_parameter("rnn.W_hh").copy_(torch.eye(8))
        model.W_hq.normal_(0, 0.1)
    return model


def nll_after(model: RNNLMScratch, chars: list[int], target: int) -> float:
    """Return -log P of the target after these characters, starting from a zero state."""
    with torch.no_grad():
        logits_V = model(torch.tensor([chars]))[0][0, -1]
    return float(logits_V.logsumexp(0) - logits_V[target])


def window_perplexity(model: RNNLMScratch, chars: list[int], starts: range, num_steps: int) -> float:
    nlls = [nll_after(model, chars[s : s + t + 1], chars[s + t + 1]) for s in starts for t in range(num_steps)]
    return math.exp(math.fsum(nlls) / len(nlls))


def stream_perplexity(model: RNNLMScratch, chars: list[int], targets: range) -> float:
    """Return the perplexity of targets that are read side by side, each stream after the 512 characters before it."""
    border = max(targets.start, 513)  # targets before it have fewer characters before them
    length = -(-len(range(border, targets.stop)) // scores.STREAMS)
    nlls = []
    for target in targets:
        first = target if target < border else target - (target - border) % length
        begin = 0 if target < border else first - 1 - 512
        nlls.append(nll_after(model, chars[begin:target], chars[target]))
    return math.exp(math.fsum(nlls) / len(nlls))


@pytest.fixture(params=["rnn", "lstm"])
def any_cell(request: pytest.FixtureRequest, model: RNNLMScratch) -> RNNLMScratch:
    """Return the RNN with a long memory, or an LSTM, whose state has more than its output."""
    return model if request.param == "rnn" else RNNLMScratch(model.vocab_size, 5, sigma=0.8, cell="lstm").double()


@pytest.mark.parametrize("batch_size", [7, 1024])
def test_window_score(any_cell: RNNLMScratch, encoded: Tensor, batch_size: int) -> None:
    starts = range(50, 80)
    found = window_score(any_cell, encoded, starts, NUM_STEPS, batch_size)
    expected = window_perplexity(any_cell, encoded.tolist(), starts, NUM_STEPS)
    assert found.perplexity == pytest.approx(expected, rel=1e-9)
    assert found.num_targets == starts[-1] - starts[0] + NUM_STEPS


@pytest.mark.parametrize(("targets", "chunk"), [(range(1, 40), 1), (range(500, 530), 37), (range(700, 730), 9)])
def test_stream_score(
    any_cell: RNNLMScratch, encoded: Tensor, targets: range, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scores, "CHUNK", chunk)
    monkeypatch.setattr(scores, "STREAMS", 4)
    found = score(stream_nll(any_cell, encoded, targets))
    assert found.perplexity == pytest.approx(stream_perplexity(any_cell, encoded.tolist(), targets), rel=1e-9)
    assert found.num_targets == len(targets)


def test_score_by_hand() -> None:
    # Blocks of 100, 100 and 50 characters with NLLs 1, 2, 3: mean 450/250, residuals -80, 20, 60.
    nll_N = torch.tensor([1.0] * 100 + [2.0] * 100 + [3.0] * 50, dtype=torch.float64)
    found = score(nll_N, torch.ones_like(nll_N))
    assert found.perplexity == pytest.approx(math.exp(1.8))
    assert found.standard_error == pytest.approx(math.exp(1.8) * math.sqrt((6400 + 400 + 3600) * 3 / 2) / 250)
    assert found.bits == pytest.approx(math.log2(found.perplexity))
    assert found.num_targets == 250
    assert math.isnan(score(torch.ones(100), torch.ones(100)).standard_error)  # a single block
    # A character that is predicted twice counts twice.
    nll_N, count_N = torch.tensor([[2.0] * 100 + [8.0] * 100, [1.0] * 100 + [2.0] * 100], dtype=torch.float64)
    found = score(nll_N, count_N)
    mean = (200 + 800) / 300  # residuals of the two blocks: 200 - 100 mean, 800 - 200 mean
    variance = ((200 - 100 * mean) ** 2 + (800 - 200 * mean) ** 2) * 2
    assert found.perplexity == pytest.approx(math.exp(mean))
    assert found.standard_error == pytest.approx(math.exp(mean) * math.sqrt(variance) / 300)


def test_row_of_another_text(model: RNNLMScratch, vocab: Vocab, excerpt: Corpus, tmp_path: Path) -> None:
    path = tmp_path / "other.txt"
    path.write_text("Another text: 12 words, or so, é!")
    settings = {"num_steps": NUM_STEPS, "num_train": 60, "num_val": 30, "tokens": "letters", "min_count": 1}
    summary: dict[str, Any] = {"settings": {"data": settings | {"start": 0}}, "corpus": {"sha256": excerpt.sha256}}
    (row,) = evaluate(model, vocab, summary, find_corpus(str(path), []))
    chars = vocab[list("another text words or so ")]
    assert row.part == "all"
    expected = window_perplexity(model, chars, range(len(chars) - NUM_STEPS), NUM_STEPS)
    assert row.window and row.window.perplexity == pytest.approx(expected, rel=1e-9)
    assert row.stream.perplexity == pytest.approx(stream_perplexity(model, chars, range(1, len(chars))), rel=1e-9)
    path.write_text("abcd")  # shorter than a window
    with pytest.raises(SettingError, match=r"^data\.corpus=.*other\.txt: [^\n]*$"):
        evaluate(model, vocab, summary, find_corpus(str(path), []))

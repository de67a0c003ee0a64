"""Dynamic evaluation with a kNN cache, and ensembles."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from tests.support.programs import call_program
from timemachine.corpus import Corpus
from timemachine.errors import SettingError
from timemachine.evaluation.scores import as_trained, stream_nll
from timemachine.how_low import dynamic_evaluation
from timemachine.how_low.dynamic_evaluation import SEGMENT, adaptive_nll, evaluate_adapting
from timemachine.how_low.ensemble import Ensemble
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab

KNOWN, TARGETS = range(1, 599), range(600, 900)


def model(seed: int) -> RNNLMScratch:
    """Return a model in float64: over a thousand characters its recurrence amplifies rounding errors."""
    torch.manual_seed(seed)
    return RNNLMScratch(28, hiddens=5, sigma=0.8).double()


@pytest.fixture
def tokens_N(sample: Corpus) -> torch.Tensor:
    return Vocab.of(sample.characters).encode(sample.characters)


def test_later_characters_change_nothing(tokens_N: torch.Tensor) -> None:
    """A prediction depends only on earlier characters."""
    other_N = tokens_N.clone()
    cut = TARGETS.start - 513 + SEGMENT * 24 + 1  # at the end of a segment
    other_N[cut:] = 5
    ours, theirs = (adaptive_nll(model(0), text_N, KNOWN, TARGETS, 0.1) for text_N in (tokens_N, other_N))
    assert torch.equal(ours[: cut - TARGETS.start], theirs[: cut - TARGETS.start])
    assert not torch.equal(ours[cut - TARGETS.start :], theirs[cut - TARGETS.start :])


def test_learning_leaves_the_model_unchanged(tokens_N: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic_evaluation, "EXPONENTS", (1.0, 0.0, 0.0))  # without the cache
    monkeypatch.setattr(dynamic_evaluation, "EXPONENTS_RATE", 0.0)
    network = model(0)
    before = [weight.clone() for weight in network.parameters()]
    fixed = stream_nll(network, tokens_N, range(600, 5000)).mean()
    assert adaptive_nll(network, tokens_N, KNOWN, range(600, 5000), 0.3).mean() < fixed - 0.3
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


@pytest.mark.parametrize(
    ("known", "size", "recent", "block"),
    [(range(1, 80), 2**18, 8192, 256), (range(1, 400), 70, 50, 1)],  # the cache size applies at the start of a block
)
def test_cache_against_a_slow_loop(
    known: range, size: int, recent: int, block: int, tokens_N: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slow loop reads one character at a time, its model does not learn, and autograd updates the exponents."""
    monkeypatch.setattr(dynamic_evaluation, "CACHE_SIZE", size)
    monkeypatch.setattr(dynamic_evaluation, "RECENT", recent)
    monkeypatch.setattr(dynamic_evaluation, "BLOCK", block)
    text_N, first = tokens_N.long(), TARGETS.start - 513
    states = []
    inputs_N, start = text_N[: min(known.stop - 1, first)], max(0, min(known.stop - 1, first) - size)
    for text_L in (inputs_N[start:], text_N[first : TARGETS.stop - 1]):
        H_L1H, _ = model(0).hidden_states(text_L[None])
        states.append(H_L1H[:, 0] / H_L1H[:, 0].norm(dim=1, keepdim=True))
    states_MH, before = torch.cat(states).detach(), len(states[0])
    next_M = torch.cat([text_N[start + 1 : start + before + 1], text_N[first + 1 : TARGETS.stop]])
    p_NV = model(0).output_layer(H_L1H)[0].softmax(1).detach()
    exponents_K = torch.tensor([0.3, 0.4, 0.2], dtype=torch.float64, requires_grad=True)
    total, found = torch.zeros((), dtype=torch.float64), []
    for n, m in enumerate(range(before, len(states_MH))):
        log_p_KV = [p_NV[n].log()]
        for oldest in (max(0, m - size), max(before, m - recent)):
            similar_M = (25 * states_MH[oldest:m] @ states_MH[m]).exp()
            followed_V = torch.full_like(p_NV[n], 1 / 28)
            if m > oldest:
                followed_V = torch.zeros_like(followed_V).index_add_(0, next_M[oldest:m], similar_M) / similar_M.sum()
            log_p_KV.append((0.8 * followed_V + 0.2 * p_NV[n]).log())
        nll = -(exponents_K @ torch.stack(log_p_KV)).log_softmax(0)[next_M[m]]
        found.append(nll.detach())
        total = total + nll
        if n % SEGMENT == SEGMENT - 1:
            (gradient_K,) = torch.autograd.grad(total, exponents_K)
            exponents_K = (exponents_K - 0.001 * gradient_K).clamp(0, 1).detach().requires_grad_()
            total = torch.zeros((), dtype=torch.float64)
    expected_N = torch.stack(found)[-len(TARGETS) :].double()
    torch.testing.assert_close(adaptive_nll(model(0), tokens_N, known, TARGETS, 0.0), expected_N)


@pytest.mark.parametrize("known", [range(0), range(1, 599)])
def test_probabilities_sum_to_one(known: range, tokens_N: torch.Tensor) -> None:
    target = range(TARGETS.stop, TARGETS.stop + 1)
    total = 0.0
    for symbol in range(28):
        other_N = tokens_N.clone()
        other_N[target.start] = symbol
        total += adaptive_nll(model(0), other_N, known, target, 0.1).neg().exp().item()
    assert total == pytest.approx(1)


@pytest.fixture
def short(sample: Corpus) -> Corpus:
    return replace(sample, characters=sample.characters[:3000])


def summary_of(corpus: Corpus) -> dict[str, Any]:
    data = {"num_steps": 8, "num_train": 2000, "num_val": 300, "start": 0, "tokens": "letters", "min_count": 1}
    return {"settings": {"data": data}, "corpus": {"sha256": corpus.sha256}}


def test_cache_of_the_training_text(short: Corpus) -> None:
    vocab, summary = Vocab.of(short.characters), summary_of(short)
    row = evaluate_adapting(model(0), vocab, summary, short, 0.01)[0]
    assert (row.part, row.model) == ("val", "model, adapting")
    _, tokens_N, splits = as_trained(summary, short, vocab)
    targets = splits["val"].targets
    with_it, without = (
        adaptive_nll(model(0), tokens_N, known, targets, 0.01).mean().exp().item()
        for known in (range(1, 2008), range(0))
    )
    assert row.stream.perplexity == pytest.approx(with_it) and with_it < 0.9 * without


@pytest.mark.parametrize(
    "nll_of", [partial(stream_nll, targets=TARGETS), partial(adaptive_nll, known=KNOWN, targets=TARGETS, rate=0.1)]
)
def test_ensemble_is_the_mean(nll_of: Callable[..., torch.Tensor], tokens_N: torch.Tensor) -> None:
    one_N, other_N, both_N = (
        nll_of(each, tokens_N).neg().exp() for each in (model(0), model(1), Ensemble([model(0), model(1)]))
    )
    torch.testing.assert_close(both_N, (one_N + other_N) / 2)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_calls")
def test_evaluating_an_ensemble() -> None:
    small = ("data=sample", "logger=csv", "trainer=cpu", "trainer.max_steps=1", "model.hiddens=4")
    for name, setting in (("a", "seed=0"), ("b", "seed=1"), ("c", "data.num_val=100")):
        assert call_program("train.py", *small, setting, f"hydra.run.dir={name}").returncode == 0
    done = call_program("evaluate.py", "run=[a,b/model.safetensors]", "adapt=0.01")
    assert done.returncode == 0, done.stderr
    assert "a, b/model.safetensors" in done.stdout and "rate 0.01: stream" in done.stdout
    done = call_program("evaluate.py", "run=[a,c]")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and done.stderr.startswith("error: run=c: ")


def test_a_diverging_rate(short: Corpus) -> None:
    with pytest.raises(SettingError, match=r"^adapt=1000: [^\n]*$"):
        evaluate_adapting(model(0), Vocab.of(short.characters), summary_of(short), short, 1e3)

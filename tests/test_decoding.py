import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from timemachine.decoding import continue_text
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.rnn import ACTIVATIONS
from timemachine.sampling import Truncation, truncate
from timemachine.vocab import Vocab

VOCAB = Vocab("abc ")


def random_model(**network: Any) -> FusedRNNLM:
    """Return a model with random weights, large enough for its predictions to depend on earlier characters.

    With this seed, its greedy text does not loop. `<unk>` is the likeliest of all, but never emitted.
    """
    torch.manual_seed(11)
    model = FusedRNNLM(len(VOCAB), hiddens=8, sigma=1.0, **network)
    with torch.no_grad():
        model.b_q[VOCAB.unk] = 1e30
    return model


@pytest.mark.parametrize("network", [*({"activation": name} for name in ACTIVATIONS), {"cell": "gru"}], ids=str)
def test_greedy_is_predict(network: dict[str, str]) -> None:
    model, prefix = random_model(**network), "c ab a"
    greedy = model.predict(prefix, 30, VOCAB)
    assert continue_text(model, VOCAB, prefix, 30, num_samples=2) == [greedy] * 2
    assert continue_text(model, VOCAB, prefix, 30, alpha=1e300) == [greedy]
    assert continue_text(model, VOCAB, prefix, 0) == [prefix]


@pytest.mark.parametrize(
    ("size", "alpha", "seed", "truncation"),
    [(300, 0.7, 3, Truncation()), (20, 0.5, 8, Truncation(top_k=6, top_p=0.8))],
)
def test_samples_against_the_distribution(size: int, alpha: float, seed: int, truncation: Truncation) -> None:
    """Draw one sample at a time from the cumulative sum of the kept softmax(α·logits) in float64.

    The numbers come from the seed alone, not from torch's global generator.
    """
    vocab = Vocab(map(chr, range(1000, 1000 + size)))
    torch.manual_seed(0)
    model = FusedRNNLM(len(vocab), hiddens=8, sigma=1.0)
    prefix, num_samples = "".join(vocab.to_tokens([5, size - 1])), 200
    texts = continue_text(model, vocab, prefix, 3, alpha, num_samples, seed, truncation)
    random = np.random.default_rng(seed)
    uniform_TS = 1 - np.stack([random.random(num_samples, np.float32) for _ in range(3)])
    differ = 0
    for text, uniform_T in zip(texts, uniform_TS.T, strict=True):
        for place, uniform in enumerate(uniform_T, 2):
            logits_V = model(torch.tensor([vocab[list(text[:place])]]))[0][0, -1].detach().double()
            logits_V[vocab.unk] = -torch.inf
            P_V1 = (alpha * logits_V).softmax(0).numpy()[:, None]
            truncate(P_V1, truncation)
            differ += int((P_V1.cumsum() < uniform * P_V1.sum()).sum()) != vocab[text[place]]
    assert differ <= 1  # a uniform number may fall between two roundings of a sum


def kept(weights: list[int], truncation: Truncation) -> list[int]:
    """Return the weights that the definitions keep, and 0 for others. Sums of integers are exact."""
    if truncation.top_k is not None:
        smallest = sorted(weights, reverse=True)[: truncation.top_k][-1]
        weights = [weight if weight >= smallest else 0 for weight in weights]
    if truncation.top_p is not None:
        ordered = sorted(weights, reverse=True)
        sums = itertools.accumulate(ordered)
        number = next(number for number, total in enumerate(sums) if total >= truncation.top_p * sum(weights))
        weights = [weight if weight >= ordered[number] else 0 for weight in weights]
    if truncation.min_p is not None:
        weights = [weight if weight >= truncation.min_p * max(weights) else 0 for weight in weights]
    return weights


truncations = st.builds(
    Truncation,
    st.none() | st.integers(1, 12),
    st.none() | st.sampled_from([0.125, 0.5, 0.75, 1.0]),
    st.none() | st.sampled_from([0.0, 0.125, 0.5, 1.0]),
)


@given(st.lists(st.lists(st.integers(0, 9), min_size=8, max_size=8).filter(any), min_size=1, max_size=4), truncations)
def test_truncation_is_its_definition(columns: list[list[int]], truncation: Truncation) -> None:
    weights_VS = np.array(columns, np.float32).T.copy()
    truncate(weights_VS, truncation)
    assert weights_VS.T.tolist() == [kept(column, truncation) for column in columns]


@pytest.mark.parametrize(("tokens", "start"), [("abc ", " "), ("ab\n", "\n"), ("雪天", "天")])
def test_an_empty_prefix(tokens: str, start: str) -> None:
    """Decoding starts from a space, or from another symbol. In a Chinese vocabulary, `<unk>` is the first symbol."""
    vocab = Vocab(tokens)
    torch.manual_seed(0)
    model = FusedRNNLM(len(vocab), hiddens=8, sigma=1.0)
    assert [start + text for text in continue_text(model, vocab, "", 9)] == continue_text(model, vocab, start, 9)

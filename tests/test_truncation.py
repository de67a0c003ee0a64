"""Sampling with temperature, top-k, top-p and min-p, compared with their definitions."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from timemachine.config import Generate
from timemachine.decoding import Truncation, continue_text, truncate
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.vocab import Vocab

VOCAB = Vocab("abcdefg ")


def model() -> FusedRNNLM:
    torch.manual_seed(3)
    return FusedRNNLM(len(VOCAB), hiddens=8, sigma=1.0)


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


@pytest.mark.parametrize(
    ("alpha", "truncation"),
    [(1 / 0.7, Truncation()), (1.0, Truncation(3)), (0.5, Truncation(6, 0.8)), (1.0, Truncation(None, None, 0.2))],
)
def test_frequencies_are_the_distributions(alpha: float, truncation: Truncation) -> None:
    """A chi-square test of 20,000 characters, which rejects a correct sampler for one seed in a million."""
    network, size = model(), 20_000
    logits_V = network(torch.tensor([VOCAB[["a", "b"]]]))[0][0, -1].detach().double()
    logits_V[VOCAB.unk] = -torch.inf
    expected_V1 = (alpha * logits_V).softmax(0).numpy()[:, None].astype(np.float32)
    truncate(expected_V1, truncation)
    expected_V = size * expected_V1[:, 0] / expected_V1.sum()
    texts = continue_text(network, VOCAB, "ab", 1, alpha, size, seed=1, truncation=truncation)
    found_V = np.bincount([VOCAB[text[-1]] for text in texts], minlength=len(VOCAB))
    possible = expected_V > 0
    assert found_V[~possible].sum() == 0
    chi_square = float(((found_V - expected_V)[possible] ** 2 / expected_V[possible]).sum())
    assert chi_square < stats.chi2.ppf(1 - 1e-6, int(possible.sum()) - 1)


def test_settings_choose_the_power() -> None:
    assert Generate(run="run").power is None
    assert Generate(run="run", temperature=0.5).power == 2
    assert Generate(run="run", top_p=0.9).power == 1
    assert Generate(run="run", alpha=3, top_k=2).power == 3

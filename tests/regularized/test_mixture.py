"""The mixture of n-grams: its distributions, and Kneser-Ney before learning."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.rounding import rounding
from timemachine.corpus import Corpus
from timemachine.evaluation.ngrams import kneser_ney
from timemachine.regularized import mixture
from timemachine.regularized.mixture import CONTEXTS, NUM_ORDERS, Mixture, log_loss
from timemachine.regularized.symbols import LETTERS, Symbols
from timemachine.vocab import UNKNOWN

CHARACTERS = Symbols(sorted([*"\n ,'BHTabehtzéδ", UNKNOWN]))

V = len(LETTERS)
TEXTS = st.text("ab z", max_size=60).map(LETTERS.encode)


def taught(text: bytes, symbols: Symbols = LETTERS) -> Mixture:
    model = Mixture(symbols)
    model.learn(text)
    return model


@pytest.mark.parametrize("symbols", [LETTERS, CHARACTERS])
@settings(max_examples=25)
@given(st.text("ab z,B\nδ?", max_size=60), st.text("ab z,B\nδ?", max_size=60))
def test_each_distribution_sums_to_one(symbols: Symbols, known: str, read: str) -> None:
    train, text = symbols.encode(known), symbols.encode(read)
    log_p_NV = taught(train, symbols).read(text, range(len(text)))
    assert log_p_NV.shape == (len(text), len(symbols))
    assert np.exp(log_p_NV).sum(1) == pytest.approx(1, abs=rounding(3 * len(symbols)))


@given(TEXTS, TEXTS, TEXTS)
def test_later_characters_change_nothing(train: bytes, text: bytes, later: bytes) -> None:
    """Neither the target nor later text changes the distribution of a target, bit for bit."""
    one, other = (
        taught(train).read(text + end, range(len(text + end)))
        for end in (LETTERS.encode("q") + later, LETTERS.encode("z"))
    )
    assert np.array_equal(one[: len(text) + 1], other[: len(text) + 1])


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_after_against_read(train: bytes, texts: list[bytes]) -> None:
    model, untouched = taught(train), taught(train)
    p_BV = model.next_probabilities(texts)
    for text, p_V in zip(texts, p_BV, strict=True):
        expected_1V = np.exp(untouched.read(text + LETTERS.encode("a"), range(len(text), len(text) + 1)))
        assert p_V == pytest.approx(expected_1V[0], abs=rounding(2 * CONTEXTS * 10))  # about ten nats


def slow_kneser_ney(train: str, context: str) -> list[float]:
    """Return P of each symbol without arrays: subtract 0.9 from a count of one and 1.2 from larger counts."""
    padded = " " * NUM_ORDERS + train
    ends = range(NUM_ORDERS + 1, len(padded) + 1)

    def count(gram: str) -> int:
        if len(gram) == NUM_ORDERS:
            return sum(padded[:end].endswith(gram) for end in ends)
        longer = {padded[end - len(gram) - 1 : end] for end in ends}
        return sum(other[1:] == gram for other in longer)

    p = [1 / V] * V
    for order in range(NUM_ORDERS):
        counts = [count(context[len(context) - order :] + token) for token in LETTERS.tokens]
        discounts = [0.9 * (n == 1) + 1.2 * (n > 1) for n in counts]
        if sum(counts):
            p = [(n - d + sum(discounts) * q) / sum(counts) for n, d, q in zip(counts, discounts, p, strict=True)]
    return p


@settings(max_examples=20)
@given(st.text("ab z", max_size=40), st.text("ab z", min_size=NUM_ORDERS, max_size=NUM_ORDERS))
def test_untrained_mixture_is_kneser_ney(train: str, context: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixture, "RATE", 0)
        patch.setattr(mixture, "INITIAL_WEIGHT", 0)
        log_p_1V = taught(LETTERS.encode(train)).read(LETTERS.encode(f"{context}?"), range(NUM_ORDERS, NUM_ORDERS + 1))
    assert np.exp(log_p_1V[0]) == pytest.approx(slow_kneser_ney(train, context), rel=rounding(NUM_ORDERS * 100))


def test_mixture_beats_its_ngrams(sample: Corpus) -> None:
    text = LETTERS.encode(sample.characters[:6000])
    train, targets = text[:5000], range(5000, 6000)
    best = min(kneser_ney(train, text, targets, order, V).mean() for order in range(1, NUM_ORDERS + 1))
    assert log_loss(taught(train).read(text, targets), text, targets).mean() < best


def test_learning_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of targets per allocation changes nothing."""
    text = LETTERS.encode("the time traveller for so it will be convenient to speak of him")
    whole = taught(text).read(text, range(len(text)))
    monkeypatch.setattr(mixture, "LEARNED_AT_ONCE", 7)
    assert np.array_equal(taught(text).read(text, range(len(text))), whole)

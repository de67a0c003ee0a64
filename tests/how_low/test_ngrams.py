"""N-grams against their equations, written out by hand or without arrays."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timemachine.corpus import find_corpus
from timemachine.how_low.ngrams import SYMBOLS, kneser_ney, laplace, witten_bell

TEXTS = st.text("ab z", max_size=40).map(str.encode)


def test_laplace_adds_one() -> None:
    unigram = (4 + 1) / (8 + 27)  # a, four times in eight characters
    bigram = (3 + 1) / (4 + 27)  # ba, three times; b is followed by something four times
    trigram = (2 + 1) / (3 + 27)  # aba, twice; ab is followed by something three times
    found = [laplace(b"ababbaba", b"aba", range(2, 3), order)[0] for order in (1, 2, 3)]
    assert np.exp(np.negative(found)) == pytest.approx([unigram, bigram, trigram])


def test_witten_bell_interpolates() -> None:
    unigram = (4 + 2 / 27) / (8 + 2)
    bigram = (3 + 2 * unigram) / (4 + 2)  # b is followed by a, a, a and b
    trigram = (2 + 2 * bigram) / (3 + 2)  # ab is followed by a, b and a
    found = [witten_bell(b"ababbaba", b"aba", range(2, 3), order)[0] for order in (1, 2, 3)]
    assert np.exp(np.negative(found)) == pytest.approx([unigram, bigram, trigram])
    never_seen = witten_bell(b"ababbaba", b"zba", range(2, 3), 3)
    assert never_seen == witten_bell(b"ababbaba", b"zba", range(2, 3), 2)


def slow_kneser_ney(train: str, text: str, order: int) -> float:
    """P of the last character of the text after those before it, from Chen and Goodman's equations, with no arrays."""

    def grams(length: int) -> list[str]:
        return [train[start : start + length] for start in range(len(train) - length + 1)]

    def count(gram: str) -> int:
        if len(gram) == order:
            return grams(order).count(gram)
        return len({longer[0] for longer in grams(len(gram) + 1) if longer[1:] == gram})

    def probability(gram: str) -> float:
        if not gram:
            return 1 / 27
        kinds = [count(other) for other in set(grams(len(gram)))]
        n1, n2, n3, n4 = (kinds.count(number) for number in (1, 2, 3, 4))
        discounts = [0, 0.5, 1, 1.5]
        if n1 and n2 and n3 and n4:
            y = n1 / (n1 + 2 * n2)
            found = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
            if min(found) > 0:
                discounts = [0, *found]
        after = [count(gram[:-1] + chr(symbol)) for symbol in SYMBOLS]
        if not sum(after):
            return probability(gram[1:])
        own = count(gram)
        reserved = sum(discounts[min(number, 3)] for number in after)
        return (own - discounts[min(own, 3)] + reserved * probability(gram[1:])) / sum(after)

    return probability(text[-order:])


@given(
    st.one_of(st.text("ab z", max_size=40), st.text("abcdefgh ", min_size=150, max_size=200)),
    st.text("abz ", min_size=6, max_size=6),
    st.integers(1, 5),
)
def test_kneser_ney_is_that_of_its_equations(train: str, text: str, order: int) -> None:
    (nll,) = kneser_ney(train.encode(), text.encode(), range(5, 6), order)
    assert math.exp(-nll) == pytest.approx(slow_kneser_ney(train, text, order))


@given(TEXTS, st.text("abz ", min_size=6, max_size=6).map(str.encode), st.integers(1, 7))
def test_each_distribution_sums_to_one(train: bytes, context: bytes, order: int) -> None:
    for smoothed in (laplace, witten_bell, kneser_ney):
        nlls = [smoothed(train, context + bytes([symbol]), range(6, 7), order)[0] for symbol in SYMBOLS]
        assert np.exp(np.negative(nlls)).sum() == pytest.approx(1)


def test_a_context_runs_on_from_the_text() -> None:
    text = b"the time traveller for so it will be convenient"
    whole = witten_bell(text, text, range(10, 40), 4)
    assert witten_bell(text, text[20:], range(5, 20), 4) == pytest.approx(whole[15:])
    with pytest.raises(ValueError, match="fewer than 3"):
        laplace(text, text, range(2, 10), 4)


def test_the_novel_has_the_perplexities_that_are_known(novels: Path) -> None:
    text = find_corpus("time_machine", [str(novels)]).characters
    train, parts = text[:10_032], [range(10_032, 15_032), range(15_032, len(text))]

    def perplexities(smoothed: Callable[..., Any], order: int) -> list[float]:
        return [math.exp(np.mean(smoothed(train, text, part, order))) for part in parts]

    assert perplexities(laplace, 1) == pytest.approx([16.67, 16.99], abs=0.006)
    assert perplexities(laplace, 3) == pytest.approx([7.85, 9.42], abs=0.006)
    by_order = {order: perplexities(witten_bell, order) for order in range(1, 8)}
    assert min(by_order, key=lambda order: by_order[order][0]) == 4
    assert by_order[4] == pytest.approx([5.32, 7.97], abs=0.006)
    assert perplexities(kneser_ney, 6) == pytest.approx([4.62, 6.58], abs=0.006)
    train, parts = text[: len(text) * 90 // 100], [range(len(text) * 90 // 100, len(text) * 95 // 100)]
    assert [*perplexities(witten_bell, 5), *perplexities(kneser_ney, 7)] == pytest.approx([4.01, 3.65], abs=0.006)

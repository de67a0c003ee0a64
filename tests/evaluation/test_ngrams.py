"""N-grams compared with their equations, without arrays."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from timemachine.evaluation.ngrams import best_order, kneser_ney, laplace
from timemachine.vocab import Vocab

LETTERS = Vocab("abcdefghijklmnopqrstuvwxyz ")
V = len(LETTERS)

# The probability of the last character of a text, computed from the equations without arrays

Symbols = tuple[int, ...]


def encoded(text: str) -> Any:
    return LETTERS.indices(text).astype(np.int64)


def grams(train: Symbols, order: int) -> list[Symbols]:
    return [train[start : start + order] for start in range(len(train) - order + 1)]


def slow_laplace(train: Symbols, text: Symbols, order: int, num_symbols: int) -> float:
    gram = text[len(text) - order :]
    return (grams(train, order).count(gram) + 1) / (grams(train, order - 1).count(gram[:-1]) + num_symbols)


def slow_kneser_ney(train: Symbols, text: Symbols, order: int, num_symbols: int) -> float:
    """Return the probability from Chen and Goodman's equations."""

    def counted(k: int) -> Counter[Symbols]:
        return Counter(grams(train, k) if k == order else [longer[1:] for longer in {*grams(train, k + 1)}])

    p = 1 / num_symbols
    for k in range(1, order + 1):
        gram, counts = text[len(text) - k :], counted(k)
        n1, n2, n3, n4 = (list(counts.values()).count(number) for number in (1, 2, 3, 4))
        discounts = [0, 0.5, 1, 1.5]
        if n1 and n2 and n3 and n4:
            y = n1 / (n1 + 2 * n2)
            estimated = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
            discounts = [0, *estimated] if min(estimated) > 0 else discounts
        after = {other: count for other, count in counts.items() if other[:-1] == gram[:-1]}
        if after:
            reserved = sum(discounts[min(count, 3)] for count in after.values())
            own = after.get(gram, 0)
            p = (own - discounts[min(own, 3)] + reserved * p) / sum(after.values())
    return p


@pytest.mark.parametrize(("smoothed", "slow"), [(laplace, slow_laplace), (kneser_ney, slow_kneser_ney)])
@given(
    data=st.data(),
    sizes=st.one_of(
        st.tuples(st.sampled_from([2, 27, 100, 256]), st.integers(1, 7)),
        st.tuples(st.sampled_from([300, 1025, 4096]), st.integers(1, 5)),
    ),
)
def test_ngrams_against_equations(
    smoothed: Callable[..., Any], slow: Callable[..., float], data: st.DataObject, sizes: tuple[int, int]
) -> None:
    """Draw the first and last symbols: with 256 and 4,096 symbols, the indices of n-grams reach their maximum."""
    num_symbols, order = sizes
    some = st.sampled_from(sorted({0, 1, num_symbols - 2, num_symbols - 1}))
    many = st.lists(st.integers(0, min(9, num_symbols - 1)), min_size=150, max_size=200)
    drawn = data.draw(st.one_of(st.lists(some, max_size=40), many)), data.draw(st.lists(some, min_size=7, max_size=7))
    train, text = (np.array(numbers, np.int64) for numbers in drawn)
    (nll,) = smoothed(train, text, range(6, 7), order, num_symbols)
    assert math.exp(-nll) == pytest.approx(slow(*map(tuple, drawn), order, num_symbols))


def test_context_before_the_targets() -> None:
    text = encoded("the time traveller for so it will be convenient")
    whole = kneser_ney(text, text, range(10, 40), 4, V)
    assert kneser_ney(text, text[20:], range(5, 20), 4, V) == pytest.approx(whole[15:])


def test_best_order() -> None:
    text = encoded("the time traveller for so it will be convenient to speak of him was expounding")
    targets = range(40, len(text))
    means = {order: kneser_ney(text[:40], text, targets, order, V).mean() for order in range(1, 14)}
    assert best_order(text[:40], text, targets, V, 20) == min(means, key=means.__getitem__)  # 63 bits hold 13 letters

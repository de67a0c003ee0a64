"""N-grams as baselines: Laplace smoothing, as in the book, and modified Kneser-Ney smoothing.

N targets, K distinct n-grams, V symbols, `num_symbols`. A text is an array of symbols below V. Functions count n-grams
in `train` and predict the targets of `text`, each from the order - 1 symbols before it. They raise ValueError if a
target has fewer before it, and if an n-gram does not fit into 63 bits, which hold 13 letters or five of 4,096 tokens.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def laplace(train: Integers, text: Integers, targets: range, order: int, num_symbols: int) -> Floats:
    """Return negative log-likelihoods (N,), in nats, of n-grams of one order with 1 added to each count.

    P(x | c) = (n(cx) + 1) / (n(c) + V), as in section 9.3 of the book.
    """
    target_N = _ngrams_at(text, targets, order, num_symbols)
    ngram_N = _look_up(target_N, *_counted(train, order, num_symbols))
    context_N = _look_up(target_N // num_symbols, *_counted(train, order - 1, num_symbols))
    nll_N: Floats = np.log((context_N + num_symbols) / (ngram_N + 1))
    return nll_N


def kneser_ney(train: Integers, text: Integers, targets: range, order: int, num_symbols: int) -> Floats:
    """Return negative log-likelihoods (N,), nats, interpolating orders up to `order`, with three discounts per order.

    P_k(x | c) = (n(cx) - D(n(cx)) + Σ_y D(n(cy)) · P_{k-1}(x | c')) / n(c), with P_0 = 1 / V. Below the highest order
    n(cx) counts the distinct symbols seen before cx. For a context never seen, the shorter one is used alone.
    Chen and Goodman, "An empirical study of smoothing techniques for language modeling", 1999, section 3.
    """
    p_N: Floats = np.full(len(targets), 1 / num_symbols)
    for k in range(1, order + 1):
        ngram_K, count_K = _counted(train, k, num_symbols) if k == order else _continued(train, k, num_symbols)
        discount_K = _discounts(count_K)[count_K.clip(max=3)]
        target_N = _ngrams_at(text, targets, k, num_symbols)
        context_N = target_N // num_symbols
        kept_N = _look_up(target_N, ngram_K, count_K - discount_K)
        total_N = _look_up(context_N, *_summed(ngram_K, count_K, num_symbols))
        reserved_N = _look_up(context_N, *_summed(ngram_K, discount_K, num_symbols))
        p_N = np.where(total_N > 0, (kept_N + reserved_N * p_N) / np.maximum(total_N, 1), p_N)
    nll_N: Floats = -np.log(p_N)
    return nll_N


def best_order(train: Integers, text: Integers, targets: range, num_symbols: int, max_order: int) -> int:
    """Return the order of the Kneser-Ney n-grams that predicts the targets best; only orders that fit into 63 bits."""
    orders = [order for order in range(1, max_order + 1) if num_symbols**order <= 1 << 63]
    return min(orders, key=lambda order: float(kneser_ney(train, text, targets, order, num_symbols).mean()))


def _discounts(count_K: Integers) -> Floats:
    """Return the discounts for counts of 0, 1, 2, and 3 or more, from n_1 … n_4, the numbers of n-grams by count.

    If one of these is 0, or a discount is not positive, as for a short text, they are half of the count, up to 3 / 2.
    """
    n1, n2, n3, n4 = (int((count_K == count).sum()) for count in (1, 2, 3, 4))
    if 0 in (n1, n2, n3, n4):  # the formulas divide by them
        return np.array([0, 0.5, 1, 1.5])
    y = n1 / (n1 + 2 * n2)
    discounts = [0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
    return np.array(discounts if min(discounts[1:]) > 0 else [0, 0.5, 1, 1.5])


def _ngrams_at(text: Integers, targets: range, order: int, base: int) -> Integers:
    """Return the n-gram that ends with each target (N,)."""
    if targets.start < order - 1:
        raise ValueError(f"the target {targets.start} has fewer than {order - 1} symbols before it")
    return _ngrams(text[targets.start - order + 1 : targets.stop], order, base)


def _counted(train: Integers, order: int, base: int) -> tuple[Integers, Integers]:
    """Return the distinct n-grams, sorted, and how often each occurs."""
    return np.unique(_ngrams(train, order, base), return_counts=True)


def _continued(train: Integers, order: int, base: int) -> tuple[Integers, Integers]:
    """Return the distinct n-grams with a symbol before them, sorted, and the number of these symbols."""
    return np.unique(np.unique(_ngrams(train, order + 1, base)) % base**order, return_counts=True)


def _summed(ngram_K: Integers, value_K: NDArray[Any], base: int) -> tuple[Integers, NDArray[Any]]:
    """Return the distinct contexts of sorted n-grams, and the sum of their n-grams' values."""
    context_C, first_C = np.unique(ngram_K // base, return_index=True)
    return context_C, np.add.reduceat(value_K, first_C) if len(first_C) else value_K


def _ngrams(text: Integers, order: int, base: int) -> Integers:
    """Return the n-gram that starts at each symbol, as a number of `order` digits: (N - order + 1,)."""
    if (int(text.max(initial=0)) + 1) * base ** (order - 1) > 1 << 63:
        raise ValueError(f"{order}-grams of {base} symbols do not fit into 63 bits")
    length = max(len(text) - order + 1, 0)
    number_N = np.zeros(length, np.int64)
    for place in range(order):
        number_N = number_N * base + text[place : place + length]
    return number_N


def _look_up(key_N: Integers, sorted_K: Integers, value_K: NDArray[Any]) -> NDArray[Any]:
    """Return the value of each key; 0 for a missing key."""
    if not len(sorted_K):
        return np.zeros(len(key_N), value_K.dtype)
    place_N = np.searchsorted(sorted_K, key_N).clip(max=len(sorted_K) - 1)
    return np.where(sorted_K[place_N] == key_N, value_K[place_N], 0)

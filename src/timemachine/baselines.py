"""Character n-grams to compare a model with: Laplace smoothing, as in the book, and interpolated Witten-Bell.

N targets, K distinct n-grams, V = 27 symbols: space and a to z, all that a normalised text has. Both are trained on one
text and asked for characters of another; a context runs on from the characters before, however far back the first
target lies.
"""

import numpy as np
from numpy.typing import NDArray

SYMBOLS = b" abcdefghijklmnopqrstuvwxyz"
_INDEX = bytes(max(SYMBOLS.find(code), 0) for code in range(256))

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def laplace(train: bytes, text: bytes, targets: range, order: int) -> Floats:
    """Negative log-likelihoods (N,), in nats, with one added to each count (the book's section 9.3, its ε = V).

    P(x | c) = (n(cx) + 1) / (n(c) + V) for a character x after the `order` - 1 characters c.
    """
    ngram_N, context_N, _ = _counts(train, text, targets, order)
    nll_N: Floats = np.log((context_N + len(SYMBOLS)) / (ngram_N + 1))
    return nll_N


def witten_bell(train: bytes, text: bytes, targets: range, order: int) -> Floats:
    """Negative log-likelihoods (N,), in nats, of all orders up to `order` interpolated.

    P_k(x | c) = (n(cx) + t(c) P_{k-1}(x | c')) / (n(c) + t(c)), where t(c) counts the distinct characters seen after c,
    c' is c without its first character, and P_0 = 1 / V. After a context never seen the shorter one decides alone.
    Witten and Bell, "The zero-frequency problem", IEEE Transactions on Information Theory 37(4), 1991, method C; as
    interpolation in Chen and Goodman, "An empirical study of smoothing techniques for language modeling", 1999.
    """
    p_N: Floats = np.full(len(targets), 1 / len(SYMBOLS))
    for k in range(1, order + 1):
        ngram_N, context_N, distinct_N = _counts(train, text, targets, k)
        mixed_N = (ngram_N + distinct_N * p_N) / np.maximum(context_N + distinct_N, 1)
        p_N = np.where(context_N > 0, mixed_N, p_N)
    nll_N: Floats = -np.log(p_N)
    return nll_N


def _counts(train: bytes, text: bytes, targets: range, order: int) -> tuple[Integers, Integers, Integers]:
    """What `train` has of each target's n-gram and of its context: n(cx), n(c), t(c), each (N,)."""
    if targets.start < order - 1:
        raise ValueError(f"the target {targets.start} has fewer than {order - 1} characters before it")
    asked_N = _ngrams(text[targets.start - order + 1 : targets.stop], order)
    ngram_K, count_K = np.unique(_ngrams(train, order), return_counts=True)
    context_C, first_C, distinct_C = np.unique(ngram_K // len(SYMBOLS), return_index=True, return_counts=True)
    total_C = np.add.reduceat(count_K, first_C) if len(first_C) else first_C
    asked_context_N = asked_N // len(SYMBOLS)
    return (
        _looked_up(asked_N, ngram_K, count_K),
        _looked_up(asked_context_N, context_C, total_C),
        _looked_up(asked_context_N, context_C, distinct_C),
    )


def _ngrams(characters: bytes, order: int) -> Integers:
    """The n-gram that begins at each character, as a number of `order` digits in base V: (N - order + 1,)."""
    index_N = np.frombuffer(characters.translate(_INDEX), np.uint8).astype(np.int64)
    length = max(len(index_N) - order + 1, 0)
    number_N = np.zeros(length, np.int64)
    for place in range(order):
        number_N = number_N * len(SYMBOLS) + index_N[place : place + length]
    return number_N


def _looked_up(key_N: Integers, sorted_K: Integers, value_K: Integers) -> Integers:
    """The value that belongs to each key; 0 where it is not among the sorted ones."""
    if not len(sorted_K):
        return np.zeros_like(key_N)
    place_N = np.searchsorted(sorted_K, key_N).clip(max=len(sorted_K) - 1)
    return np.where(sorted_K[place_N] == key_N, value_K[place_N], 0)

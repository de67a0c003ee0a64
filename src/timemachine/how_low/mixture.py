"""A log-linear mixture of n-grams of all orders, words and recent counts: how far counting alone goes.

N targets, C = 14 contexts of each, M = 2 C experts, V symbols. An expert m measures how its context changes the odds of
each symbol, s_m(x), and P(x) ∝ exp Σ_m w_m s_m(x). A learning model first predicts a target, then updates its weights
by a step of gradient descent on -log P, then counts the target in each context. A text has one byte per character, as
returned by `Symbols.encode`. Words consist of letters in either case; every other character ends a word.

The first experts are the orders of an interpolated Kneser-Ney model, s_k(x) = log P_k(x) / P_{k-1}(x); with their
initial weights, 1, they are equal to that model. The others measure how all counts, or recent ones, differ from its P:
s(x) = log (n(x) + 2 P(x)) / ((n + 2) P(x)), which is 0 in a context never seen. A weight is a sum of four weights,
which are selected by the count of this context, by the longest order seen, by the last character, and by the number
of letters of the word so far.

The orders: Chen and Goodman, "An empirical study of smoothing techniques for language modeling", 1999. Mixing by online
descent, for bits: Mahoney, "Adaptive weighing of context models for lossless data compression", 2005.
The constants were chosen on the novel's next 5% and on the last 1,000 of the book's training characters.
"""

import numpy as np
from numpy.typing import NDArray

from timemachine.how_low.ngrams import Floats, Integers
from timemachine.how_low.symbols import Symbols

ORDERS = 8  # contexts of 0 to 7 characters
CONTEXTS = ORDERS + 6
DECAY = 0.9  # factor of a context's recent counts each time it recurs
PRIOR = 2  # weight of P, as a number of characters seen in a context
FIRST = 0.1  # initial weight of an expert that is not an order
RATE = 0.002  # learning rate; after n characters it is divided by √(1 + n / 2000)
SEEN = np.array([0.5, 1.5, 2.5, 4.5, 9.5, 30.5, 100.5])  # borders between counts of a context with different weights
AT_ONCE = 256  # targets predicted at a time, without learning
LEARNT_AT_ONCE = 65_536  # targets per allocation for new contexts
MAX_CONTEXT = 64  # characters before a target that its contexts may span
LENGTHS = 10  # word lengths that have a weight; the last one includes longer words

Singles = NDArray[np.float32]


class Mixture:
    """Untrained mixture: `read` with `learn=True` trains it."""

    def __init__(self, symbols: Symbols) -> None:
        self.symbols = symbols
        self.row: dict[tuple[int, bytes], int] = {}  # context number, its characters -> row of counts
        self.count_R2V: Singles = np.zeros((1, 2, len(symbols)), np.float32)  # all, recent; row 0 stays empty
        self.own_weight_MS: Singles = np.full((2 * CONTEXTS, len(SEEN) + 1), FIRST, np.float32)
        self.own_weight_MS[:ORDERS] = 1
        # Rows: the longest order seen (0 to 8), the last character, the number of letters of the word.
        self.weight_JM: Singles = np.zeros((ORDERS + 1 + len(symbols) + LENGTHS, 2 * CONTEXTS), np.float32)
        self.num_read = 0

    def read(self, text: bytes, targets: range, learn: bool = False) -> Floats:
        """Return the log-probability, in nats, of each symbol at each target: (N, V).

        With `learn` the model learns each target after predicting it; without, it does not change. Contexts include the
        characters before the first target. Raises ValueError if the text ends before the targets.
        """
        if targets and targets.stop > len(text):
            raise ValueError(f"targets end at {targets.stop}, after the text of {len(text)} characters")
        log_p_NV: Floats = np.empty((len(targets), len(self.symbols)))
        size = LEARNT_AT_ONCE if learn else AT_ONCE
        for first in range(0, len(targets), size):
            log_p_NV[first : first + size] = self._read(text, targets[first : first + size], learn)
        return log_p_NV

    def _read(self, text: bytes, targets: range, learn: bool) -> Singles:
        """Implement `read` for few enough targets to hold all their contexts: (N, V)."""
        contexts_N = [self._contexts(text[max(0, target - MAX_CONTEXT) : target]) for target in targets]
        row_NC, weight_N3 = self._rows(contexts_N, learn), self._weights(contexts_N)
        if not learn:
            return self._predicted(row_NC, weight_N3)[2]
        log_p_NV = np.empty((len(targets), len(self.symbols)), np.float32)
        # One target at a time, since each prediction depends on the updates before it.
        for n, target in enumerate(text[targets.start : targets.stop]):
            (s_MV,), (place_M,), (log_p_V,) = self._predicted(row_NC[n : n + 1], weight_N3[n : n + 1])
            log_p_NV[n] = log_p_V
            rate = RATE / (1 + self.num_read / 2000) ** 0.5
            step_M = rate * (s_MV[:, target] - s_MV @ np.exp(log_p_V))
            self.own_weight_MS[np.arange(len(step_M)), place_M] += step_M
            self.weight_JM[weight_N3[n]] += step_M
            self.count_R2V[row_NC[n]] = _counted(self.count_R2V[row_NC[n]], target)
            self.num_read += 1
        return log_p_NV

    def after(self, texts: list[bytes]) -> Singles:
        """Return the probability of each symbol after each of B texts: (B, V). The model does not change."""
        contexts_B = [self._contexts(text) for text in texts]
        return np.exp(self._predicted(self._rows(contexts_B), self._weights(contexts_B))[2])

    def _contexts(self, before: bytes) -> list[bytes]:
        """Return the contexts of the character after `before`: the contexts of all orders, then others."""
        other = self.symbols.other
        before = other * ORDERS + before  # so that all contexts exist at the beginning of a text
        _, second, first, word = before.translate(self.symbols.in_words).rsplit(other, 3)
        # The last two: the previous word with the length of this one, and the two characters before the last.
        return [before[len(before) - order :] for order in range(ORDERS)] + [
            word,
            first + other + word,
            second + other + first + other + word,
            second + other + word,
            b"%b%b%d" % (first, other, len(word)),
            before[-3:-1],
        ]

    def _weights(self, contexts_N: list[list[bytes]]) -> Integers:
        """Return rows of `weight_JM` (N, 3), for the longest order seen, the character before, and the word's letters.

        `_predicted` fills in the first column.
        """
        letters = [min(len(contexts[ORDERS]), LENGTHS - 1) for contexts in contexts_N]
        row_N3 = np.zeros((len(contexts_N), 3), np.int64)
        last_N = np.frombuffer(b"".join(contexts[1] for contexts in contexts_N), np.uint8)
        row_N3[:, 1] = last_N.astype(np.int64) + ORDERS + 1
        row_N3[:, 2] = np.array(letters, np.int64) + ORDERS + 1 + len(self.symbols)
        return row_N3

    def _rows(self, contexts_N: list[list[bytes]], learn: bool = False) -> Integers:
        """Return the rows of the contexts' counts (N, C); 0 for a context never seen, or a new row with `learn`."""
        keys = (key for contexts in contexts_N for key in enumerate(contexts))
        if learn:
            # All new rows at once, before their targets are read: a row of zeros predicts like a context never seen.
            rows = [self.row.setdefault(key, len(self.row) + 1) for key in keys]
            shape = len(self.row) + 1, *self.count_R2V.shape[1:]
            self.count_R2V.resize(shape, refcheck=False)  # adds zeros in place: it may have a gigabyte
        else:
            rows = [self.row.get(key, 0) for key in keys]
        return np.array(rows, np.int64).reshape(len(contexts_N), CONTEXTS)

    def _predicted(self, row_BC: Integers, weight_B3: Integers) -> tuple[Singles, Integers, Singles]:
        """Return the experts' s_m(x) (B, M, V), the places of their contexts in `SEEN` (B, M), and log P(x) (B, V).

        Fills in the first column of `weight_B3`.
        """
        count_BC2V = self.count_R2V[row_BC]
        seen_BM = count_BC2V.sum(3).swapaxes(1, 2).reshape(len(row_BC), -1)
        s_BMV = _expert_scores(count_BC2V, seen_BM)
        weight_B3[:, 0] = np.count_nonzero(seen_BM[:, :ORDERS], 1)
        place_BM = SEEN.searchsorted(seen_BM)
        weight_BM = self.own_weight_MS[np.arange(seen_BM.shape[1]), place_BM] + self.weight_JM[weight_B3].sum(1)
        logit_BV = (weight_BM[:, None] @ s_BMV)[:, 0]
        logit_BV -= logit_BV.max(1, keepdims=True)  # exp must not overflow
        log_p_BV: Singles = logit_BV - np.log(np.exp(logit_BV).sum(1, keepdims=True))
        return s_BMV, place_BM, log_p_BV


def log_loss(log_p_NV: Floats, text: bytes, targets: range) -> Floats:
    """Return the targets' negative log-likelihoods (N,), in nats, from the log-probabilities that `read` returned."""
    nll_N: Floats = -log_p_NV[np.arange(len(targets)), np.frombuffer(text[targets.start : targets.stop], np.uint8)]
    return nll_N


def _expert_scores(count_BC2V: Singles, seen_BM: Singles) -> Singles:
    """Return each expert's change of the odds of each symbol, s_m(x): (B, M, V)."""
    count_BKV, seen_BK = count_BC2V[:, :ORDERS, 0], seen_BM[:, :ORDERS]
    kept_BKV = np.where(count_BKV > 1, count_BKV - 1.2, 0.1 * count_BKV)  # minus a discount: 0.9 of 1, 1.2 of more
    divisor_BK = np.maximum(seen_BK, 1)  # in a context never seen, everything is left to the shorter one
    reserved_BK = np.where(seen_BK > 0, seen_BK - kept_BKV.sum(2), 1) / divisor_BK
    kept_BKV /= divisor_BK[..., None]
    p_KBV = np.empty((ORDERS + 1, *count_BKV[:, 0].shape), np.float32)
    p_KBV[0] = 1 / count_BKV.shape[-1]
    for k in range(ORDERS):
        np.multiply(p_KBV[k], reserved_BK[:, k, None], out=p_KBV[k + 1])
        p_KBV[k + 1] += kept_BKV[:, k]
    count_BEV = np.concatenate([count_BC2V[:, ORDERS:, 0], count_BC2V[:, :, 1]], 1)
    ratio_BEV = (count_BEV / p_KBV[-1][:, None] + PRIOR) / (seen_BM[:, ORDERS:, None] + PRIOR)
    s_BMV: Singles = np.log(np.concatenate([(p_KBV[1:] / p_KBV[:-1]).swapaxes(0, 1), ratio_BEV], 1))
    return s_BMV


def _counted(count_C2V: Singles, target: int) -> Singles:
    """Count a target; below the highest order only if it is new to the next order, as in Kneser-Ney smoothing."""
    count_C2V[: ORDERS - 1, 0, target] += count_C2V[1:ORDERS, 0, target] == 0
    count_C2V[ORDERS - 1 :, 0, target] += 1
    count_C2V[:, 1] *= DECAY
    count_C2V[:, 1, target] += 1
    return count_C2V

"""A log-linear mixture of n-grams of all orders, words and recent counts.

N targets, C = 14 contexts of each, M = 2 C experts, V symbols. An expert m measures how its context changes the odds of
each symbol, s_m(x), and P(x) ∝ exp Σ_m w_m s_m(x). To learn a target, the model predicts it, updates its weights by a
step of gradient descent on -log P, then counts the target in each context. A text has one byte per character, as
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

from timemachine.regularized.symbols import Symbols

NUM_ORDERS = 8  # contexts of 0 to 7 characters
CONTEXTS = NUM_ORDERS + 6
DECAY = 0.9  # factor of a context's recent counts each time it recurs
PRIOR = 2  # weight of P, as a number of characters seen in a context
INITIAL_WEIGHT = 0.1  # initial weight of an expert that is not an order
RATE = 0.002  # learning rate; after n characters it is divided by √(1 + n / 2000)
COUNT_EDGES = np.array([0.5, 1.5, 2.5, 4.5, 9.5, 30.5, 100.5])  # bins of a context's count; each has its own weight
AT_ONCE = 256  # targets predicted at a time, without learning
LEARNED_AT_ONCE = 65_536  # targets per allocation for new contexts
MAX_CONTEXT = 64  # characters before a target that its contexts may span
LENGTHS = 10  # word lengths that have a weight; the last one includes longer words

Singles = NDArray[np.float32]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Mixture:
    """Untrained mixture; `learn` trains it."""

    def __init__(self, symbols: Symbols) -> None:
        self.symbols = symbols
        self.row: dict[tuple[int, bytes], int] = {}  # context number, its characters -> row of counts
        self.count_R2V: Singles = np.zeros((1, 2, len(symbols)), np.float32)  # all, recent; row 0 stays empty
        self.own_weight_MS: Singles = np.full((2 * CONTEXTS, len(COUNT_EDGES) + 1), INITIAL_WEIGHT, np.float32)
        self.own_weight_MS[:NUM_ORDERS] = 1
        # Rows: the longest order seen (0 to 8), the last character, the number of letters of the word.
        self.weight_JM: Singles = np.zeros((NUM_ORDERS + 1 + len(symbols) + LENGTHS, 2 * CONTEXTS), np.float32)
        self.num_read = 0

    def learn(self, text: bytes) -> None:
        """Learn a text, from its first character on: predict each character, update the weights, then count it."""
        for first in range(0, len(text), LEARNED_AT_ONCE):
            contexts_N = self._contexts_at(text, range(first, min(first + LEARNED_AT_ONCE, len(text))))
            row_NC, weight_N2 = self._rows(contexts_N, learn=True), self._weights(contexts_N)
            # One target at a time, since each prediction depends on the updates before it.
            for n, target in enumerate(text[first : first + LEARNED_AT_ONCE]):
                (s_MV,), (bin_M,), (weight_3,), (log_p_V,) = self._predict(row_NC[n : n + 1], weight_N2[n : n + 1])
                rate = RATE / (1 + self.num_read / 2000) ** 0.5
                # The gradient of log P(target): the expert's score of the target, minus its mean over P.
                step_M = rate * (s_MV[:, target] - s_MV @ np.exp(log_p_V))
                self.own_weight_MS[np.arange(len(step_M)), bin_M] += step_M
                self.weight_JM[weight_3] += step_M
                # Counted after the update: a model that has seen its target would learn to trust its counts too much.
                self.count_R2V[row_NC[n]] = _count_target(self.count_R2V[row_NC[n]], target)
                self.num_read += 1

    def read(self, text: bytes, targets: range) -> Floats:
        """Return the log-probability, in nats, of each symbol at each target: (N, V). The model does not change.

        Contexts include the characters before the first target. Raises ValueError if the text ends before the targets.
        """
        if targets and targets.stop > len(text):
            raise ValueError(f"targets end at {targets.stop}, after the text of {len(text)} characters")
        log_p_NV: Floats = np.empty((len(targets), len(self.symbols)))
        for first in range(0, len(targets), AT_ONCE):
            contexts_N = self._contexts_at(text, targets[first : first + AT_ONCE])
            log_p_NV[first : first + AT_ONCE] = self._predict(self._rows(contexts_N), self._weights(contexts_N))[-1]
        return log_p_NV

    def next_probabilities(self, texts: list[bytes]) -> Singles:
        """Return the probability of each symbol after each of B texts: (B, V). The model does not change."""
        contexts_B = [self._contexts(text) for text in texts]
        return np.exp(self._predict(self._rows(contexts_B), self._weights(contexts_B))[-1])

    def _contexts_at(self, text: bytes, targets: range) -> list[list[bytes]]:
        return [self._contexts(text[max(0, target - MAX_CONTEXT) : target]) for target in targets]

    def _contexts(self, before: bytes) -> list[bytes]:
        """Return the contexts of the character after `before`: the contexts of all orders, then others."""
        other = self.symbols.other
        before = other * NUM_ORDERS + before  # so that all contexts exist at the beginning of a text
        _, second, first, word = before.translate(self.symbols.in_words).rsplit(other, 3)
        # The last two: the previous word with the length of this one, and the two characters before the last.
        return [before[len(before) - order :] for order in range(NUM_ORDERS)] + [
            word,
            first + other + word,
            second + other + first + other + word,
            second + other + word,
            b"%b%b%d" % (first, other, len(word)),
            before[-3:-1],
        ]

    def _weights(self, contexts_N: list[list[bytes]]) -> Integers:
        """Return rows of `weight_JM` (N, 2), for the character before and for the number of the word's letters."""
        letters = [min(len(contexts[NUM_ORDERS]), LENGTHS - 1) for contexts in contexts_N]
        last_N = np.frombuffer(b"".join(contexts[1] for contexts in contexts_N), np.uint8)
        return np.stack([last_N, np.array(letters, np.int64) + len(self.symbols)], 1) + NUM_ORDERS + 1

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

    def _predict(self, row_BC: Integers, weight_B2: Integers) -> tuple[Singles, Integers, Integers, Singles]:
        """Return the experts' s_m(x) (B, M, V), the bins of their counts (B, M), all rows of `weight_JM` (B, 3), and
        log P(x) (B, V).
        """
        count_BC2V = self.count_R2V[row_BC]
        seen_BM = count_BC2V.sum(3).swapaxes(1, 2).reshape(len(row_BC), -1)
        s_BMV = _expert_scores(count_BC2V, seen_BM)
        longest_B1 = np.count_nonzero(seen_BM[:, :NUM_ORDERS], 1, keepdims=True)
        weight_B3 = np.concatenate([longest_B1, weight_B2], 1)
        bin_BM = COUNT_EDGES.searchsorted(seen_BM)
        weight_BM = self.own_weight_MS[np.arange(seen_BM.shape[1]), bin_BM] + self.weight_JM[weight_B3].sum(1)
        logit_BV = (weight_BM[:, None] @ s_BMV)[:, 0]
        logit_BV -= logit_BV.max(1, keepdims=True)  # exp must not overflow
        log_p_BV: Singles = logit_BV - np.log(np.exp(logit_BV).sum(1, keepdims=True))
        return s_BMV, bin_BM, weight_B3, log_p_BV


def log_loss(log_p_NV: Floats, text: bytes, targets: range) -> Floats:
    """Return the targets' negative log-likelihoods (N,), in nats, from the log-probabilities that `read` returned."""
    nll_N: Floats = -log_p_NV[np.arange(len(targets)), np.frombuffer(text[targets.start : targets.stop], np.uint8)]
    return nll_N


def _expert_scores(count_BC2V: Singles, seen_BM: Singles) -> Singles:
    """Return each expert's change of the odds of each symbol, s_m(x): (B, M, V)."""
    count_BKV, seen_BK = count_BC2V[:, :NUM_ORDERS, 0], seen_BM[:, :NUM_ORDERS]
    kept_BKV = np.where(count_BKV > 1, count_BKV - 1.2, 0.1 * count_BKV)  # minus a discount: 0.9 of 1, 1.2 of more
    divisor_BK = np.maximum(seen_BK, 1)  # in a context never seen, everything is left to the shorter one
    reserved_BK = np.where(seen_BK > 0, seen_BK - kept_BKV.sum(2), 1) / divisor_BK
    kept_BKV /= divisor_BK[..., None]
    # Interpolation: an order's discounted counts, plus its reserved mass times the distribution of the shorter order.
    p_KBV = np.empty((NUM_ORDERS + 1, *count_BKV[:, 0].shape), np.float32)
    p_KBV[0] = 1 / count_BKV.shape[-1]
    for k in range(NUM_ORDERS):
        np.multiply(p_KBV[k], reserved_BK[:, k, None], out=p_KBV[k + 1])
        p_KBV[k + 1] += kept_BKV[:, k]
    count_BEV = np.concatenate([count_BC2V[:, NUM_ORDERS:, 0], count_BC2V[:, :, 1]], 1)
    ratio_BEV = (count_BEV / p_KBV[-1][:, None] + PRIOR) / (seen_BM[:, NUM_ORDERS:, None] + PRIOR)
    s_BMV: Singles = np.log(np.concatenate([(p_KBV[1:] / p_KBV[:-1]).swapaxes(0, 1), ratio_BEV], 1))
    return s_BMV


def _count_target(count_C2V: Singles, target: int) -> Singles:
    """Count a target; below the highest order only if it is new to the next order, as in Kneser-Ney smoothing."""
    count_C2V[: NUM_ORDERS - 1, 0, target] += count_C2V[1:NUM_ORDERS, 0, target] == 0
    count_C2V[NUM_ORDERS - 1 :, 0, target] += 1
    count_C2V[:, 1] *= DECAY
    count_C2V[:, 1, target] += 1
    return count_C2V

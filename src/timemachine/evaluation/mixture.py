"""A log-linear mixture of n-grams of all orders, words and recent counts: how far counting alone goes.

N targets, C = 14 contexts of each, M = 2 C experts, V = 27 symbols. An expert m says how its context changes the odds
of each symbol, s_m(x), and P(x) ∝ exp Σ_m w_m s_m(x). A model that learns first predicts a target, then takes a step of
gradient descent on -log P with its weights, then counts the target in each context.

The first experts are the orders of an interpolated Kneser-Ney model, s_k(x) = log P_k(x) / P_{k-1}(x); the weights that
they begin with, 1, make that model of them. The others ask how all counts, or recent ones, differ from its P:
s(x) = log (n(x) + 2 P(x)) / ((n + 2) P(x)), which is 0 in a context never seen. A weight is a sum of four, which are
looked up: by how often its own context was seen, by the longest order seen, by the last character, and by how many
letters the word has so far.

The orders: Chen and Goodman, "An empirical study of smoothing techniques for language modeling", 1999. Mixing by a
descent that goes on, there of bits: Mahoney, "Adaptive weighing of context models for lossless data compression", 2005.
The constants were chosen on the novel's next 5 % and on the last 1,000 of the book's training characters.
"""

import numpy as np
from numpy.typing import NDArray

from timemachine.evaluation.ngrams import SYMBOLS, Floats, Integers, encoded

ORDERS = 8  # contexts of 0 to 7 characters
CONTEXTS = ORDERS + 6
DECAY = 0.9  # what is left of a context's recent counts whenever it comes again
PRIOR = 2  # characters that P counts for beside those seen in a context
FIRST = 0.1  # the first weight of an expert that is not an order
RATE = 0.002  # of the descent; after n characters it is divided by √(1 + n / 2000)
SEEN = np.array([0.5, 1.5, 2.5, 4.5, 9.5, 30.5, 100.5])  # where counts of a context have another weight
LETTERS = 10  # numbers of letters that have a weight; the last one stands for more

Singles = NDArray[np.float32]


class Mixture:
    """A model that knows nothing; `read` with `learn` teaches it."""

    def __init__(self) -> None:
        self.row: dict[tuple[int, bytes], int] = {}  # which context, its characters -> its row of counts
        self.count_R2V: Singles = np.zeros((1, 2, len(SYMBOLS)), np.float32)  # all, recent; row 0 is of no context
        self.own_weight_MS: Singles = np.full((2 * CONTEXTS, len(SEEN) + 1), FIRST, np.float32)
        self.own_weight_MS[:ORDERS] = 1
        self.weight_JM: Singles = np.zeros((ORDERS + 1 + len(SYMBOLS) + LETTERS, 2 * CONTEXTS), np.float32)
        self.num_read = 0

    def read(self, text: bytes, targets: range, learn: bool = False) -> Floats:
        """Return the log-probability, in nats, of each of the `SYMBOLS` at each target: (N, V).

        With `learn` the model learns each target after predicting it; without, it stays as it is. A context runs on
        from the characters before the first target. Raises ValueError if the text ends before the targets.
        """
        row_NC = self._rows(text, targets, learn)
        code_N = encoded(text[: targets.stop])
        weight_N3 = _weights(code_N)[targets.start :]
        log_p_NV: Floats = np.empty((len(targets), len(SYMBOLS)))
        expert_M = np.arange(len(self.own_weight_MS))
        for n, target in zip(range(len(targets)), code_N[targets.start :].tolist(), strict=True):
            count_C2V = self.count_R2V[row_NC[n]]
            seen_M = count_C2V.sum(2).T.ravel()
            s_MV = _changes(count_C2V, seen_M)
            j_3, seen_S = weight_N3[n], SEEN.searchsorted(seen_M)
            j_3[0] = np.count_nonzero(seen_M[:ORDERS])
            logit_V = (self.own_weight_MS[expert_M, seen_S] + self.weight_JM[j_3].sum(0)) @ s_MV
            logit_V -= logit_V.max()
            odds_V = np.exp(logit_V)
            total = odds_V.sum()
            log_p_NV[n] = logit_V - np.log(total)
            if learn:
                rate = RATE / (1 + self.num_read / 2000) ** 0.5
                step_M = rate * (s_MV[:, target] - s_MV @ odds_V / total)
                self.own_weight_MS[expert_M, seen_S] += step_M
                self.weight_JM[j_3] += step_M
                self.count_R2V[row_NC[n]] = _counted(count_C2V, target)
                self.num_read += 1
        return log_p_NV

    def _rows(self, text: bytes, targets: range, learn: bool) -> Integers:
        """Rows of the contexts' counts (N, C): 0 for one never seen, or a new one if it is to be learnt."""
        keys = (key for target in targets for key in enumerate(_contexts(text, target)))
        if learn:
            rows = [self.row.setdefault(key, len(self.row) + 1) for key in keys]
            new_R2V = np.zeros((len(self.row) + 1 - len(self.count_R2V), *self.count_R2V.shape[1:]), np.float32)
            self.count_R2V = np.concatenate([self.count_R2V, new_R2V])
        else:
            rows = [self.row.get(key, 0) for key in keys]
        return np.array(rows, np.int64).reshape(len(targets), CONTEXTS)


def log_loss(log_p_NV: Floats, text: bytes, targets: range) -> Floats:
    """Return negative log-likelihoods (N,), in nats, of what `read` found for these targets."""
    nll_N: Floats = -log_p_NV[np.arange(len(targets)), encoded(text[targets.start : targets.stop])]
    return nll_N


def _contexts(text: bytes, target: int) -> list[bytes]:
    """What stands before a target, of the last 64 characters: the orders' contexts, then others."""
    before = b" " * ORDERS + text[max(0, target - 64) : target]
    _, second, first, word = before.rsplit(b" ", 3)
    return [before[len(before) - order :] for order in range(ORDERS)] + [
        word,
        b"%b %b" % (first, word),
        b"%b %b %b" % (second, first, word),
        b"%b %b" % (second, word),
        b"%b %d" % (first, len(word)),
        before[-3:-1],
    ]


def _weights(code_N: Integers) -> Integers:
    """Rows of `weight_JM` for each target of a text, (N, 3): of the longest order seen, character before, letters.

    The first one is for `read` to fill in.
    """
    before_N = np.concatenate([[0], code_N])[: len(code_N)]
    place_N = np.arange(len(code_N))
    letters_N = place_N - np.maximum.accumulate(np.where(before_N == 0, place_N, 0))
    letters_N = letters_N.clip(max=LETTERS - 1) + ORDERS + 1 + len(SYMBOLS)
    return np.stack([np.zeros_like(before_N), before_N + ORDERS + 1, letters_N], 1)


def _changes(count_C2V: Singles, seen_M: Singles) -> Singles:
    """What each expert says of each symbol, s_m(x): (M, V)."""
    count_KV, seen_K = count_C2V[:ORDERS, 0], seen_M[:ORDERS]
    kept_KV = np.where(count_KV > 1, count_KV - 1.2, 0.1 * count_KV)  # less a discount: 0.9 of one, 1.2 of more
    reserved_K = np.where(seen_K > 0, seen_K - kept_KV.sum(1), 1)
    divisor_K = np.maximum(seen_K, 1)
    kept_KV /= divisor_K[:, None]
    p_KV = np.empty((ORDERS + 1, len(SYMBOLS)), np.float32)
    p_KV[0] = 1 / len(SYMBOLS)
    for k, share in enumerate((reserved_K / divisor_K).tolist()):
        np.multiply(p_KV[k], share, out=p_KV[k + 1])
        p_KV[k + 1] += kept_KV[k]
    count_EV = np.concatenate([count_C2V[ORDERS:, 0], count_C2V[:, 1]])
    ratio_EV = (count_EV / p_KV[-1] + PRIOR) / (seen_M[ORDERS:, None] + PRIOR)
    s_MV: Singles = np.log(np.concatenate([p_KV[1:] / p_KV[:-1], ratio_EV]))
    return s_MV


def _counted(count_C2V: Singles, target: int) -> Singles:
    """Count a target once more; in an order below the highest only if it is new to the next one, as Kneser and Ney."""
    count_C2V[: ORDERS - 1, 0, target] += count_C2V[1:ORDERS, 0, target] == 0
    count_C2V[ORDERS - 1 :, 0, target] += 1
    count_C2V[:, 1] *= DECAY
    count_C2V[:, 1, target] += 1
    return count_C2V

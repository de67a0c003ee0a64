"""Continue a text step by step: the likeliest token, or a sample from P^alpha, optionally truncated.

B samples at a time, S size of a state, V vocabulary. Does not import torch, so that generate.py starts in a second.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from timemachine.vocab import UNKNOWN, Vocab

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
# Maps a state and the next token to the next state (S) and the logits (V); for B tokens, (S, B) and (V, B).
# None is a zero state.
Step = Callable[[Floats | None, int | Indices], tuple[Floats, Floats]]


class Truncation(NamedTuple):
    """Filters of the tokens to sample from, applied in this order, each to the tokens kept so far.

    `top_k`: the k likeliest. `top_p`: the smallest set of likeliest tokens with a total probability of at least p
    (nucleus sampling, Holtzman et al., 2020). `min_p`: tokens with at least p times the probability of the likeliest
    (Nguyen et al., 2024). Tokens of equal probability are kept or removed together. For P = 0.5, 0.3, 0.15, 0.05,
    top_k=2 keeps two, top_p=0.9 three and min_p=0.4 two.
    """

    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None


EVERYTHING = Truncation()


def decode(
    step: Step,
    vocab: Vocab,
    prefix: str,
    num_preds: int,
    alpha: float | None = None,
    num_samples: int = 1,
    seed: int = 0,
    truncation: Truncation = EVERYTHING,
) -> list[str]:
    """Return the prefix continued by `num_preds` tokens, `num_samples` times.

    `alpha`: None decodes greedily, so that all samples are identical. With a number, the inverse of the temperature,
    each token is sampled from P(x_t | x_<t)^alpha, normalised: 1 is the model's distribution, larger values are
    sharper. `truncation` then removes unlikely tokens. `<unk>` is never emitted. An empty prefix starts from a space,
    or from the first symbol if the vocabulary has no space. Raises ValueError if `alpha` is not positive.
    """
    if alpha is not None and not alpha > 0:
        raise ValueError(f"alpha={alpha}: must be a positive number, or None for greedy decoding")
    first, *others = vocab.indices(prefix or starting_symbol(vocab)).tolist()
    state, logits = step(None, first)
    for token in others:
        state, logits = step(state, token)
    if alpha is None:
        greedy = []
        for _ in range(num_preds):
            greedy.append(int(logits.argmax()))
            state, logits = step(state, greedy[-1])
        return [prefix + vocab.decode(greedy)] * num_samples
    random = np.random.default_rng(seed)
    state, logits = (np.repeat(part[:, None], num_samples, 1) for part in (state, logits))
    drawn_TB = np.empty((num_preds, num_samples), np.int64)
    for t in range(num_preds):
        drawn_TB[t] = _draw(logits, alpha, random, truncation)
        state, logits = step(state, drawn_TB[t])
    return [prefix + vocab.decode(drawn_T.tolist()) for drawn_T in drawn_TB.T]


def starting_symbol(vocab: Vocab) -> str:
    """Return the symbol that replaces an empty prefix: a space, or the first symbol if there is none."""
    return " " if " " in vocab.token_to_idx else next(token for token in vocab.idx_to_token if token != UNKNOWN)


def truncate(weights_VB: Floats, truncation: Truncation) -> None:
    """Set the weights of unlikely tokens to 0, in place. Each column is a distribution up to a factor."""
    k, p, min_p = truncation
    if k is not None and k < len(weights_VB):
        weights_VB[weights_VB < np.partition(weights_VB, -k, 0)[-k]] = 0
    if p is not None and p < 1:
        sorted_VB = -np.sort(-weights_VB, 0)
        before_VB = np.cumsum(sorted_VB, 0, np.float64) - sorted_VB  # sum of the larger ones
        num_kept_B = (before_VB < p * weights_VB.sum(0, np.float64)).sum(0)
        weights_VB[weights_VB < np.take_along_axis(sorted_VB, num_kept_B[None] - 1, 0)] = 0
    if min_p is not None:
        weights_VB[weights_VB < min_p * weights_VB.max(0)] = 0


def _draw(logits_VB: Floats, alpha: float, random: np.random.Generator, truncation: Truncation) -> Indices:
    """Draw an index per column from softmax(alpha · logits): the first whose cumulative sum reaches a random number."""
    # The largest logit is subtracted before the multiplication, so that a large alpha does not overflow.
    below_VB = logits_VB - logits_VB.max(0)
    if alpha != 1:
        below_VB = np.float64(alpha) * below_VB
    # Not below -100, since the cast may overflow. Rounding absorbs so small a weight, so `<unk>` is never drawn.
    cumulated_VB = np.exp(np.maximum(below_VB, -100).astype(np.float32, copy=False))
    if truncation != EVERYTHING:
        truncate(cumulated_VB, truncation)
    cumulated_VB = np.cumsum(cumulated_VB, 0, np.float64).astype(np.float32)
    uniform_B = 1 - random.random(logits_VB.shape[1], np.float32)  # above 0: an index of probability 0 is never first
    unreached_VB = cumulated_VB < uniform_B * cumulated_VB[-1]
    smallest = np.min_scalar_type(len(logits_VB) - 1)  # the largest sum is V - 1, and small integers make it fast
    drawn_B: Indices = unreached_VB.view(np.uint8).sum(0, smallest).astype(np.int64)
    return drawn_B

"""Validation perplexity of the book's n-grams (section 9.3): a probe, and the baseline of a run that learns.

N-grams are counted in the training text and smoothed by adding 1 to each count (Laplace): trigrams of letters. Most
trigrams of byte-pair tokens occur only once, and smoothing makes them worse than bigrams, so for tokens the
baseline is the best of unigrams, bigrams and trigrams.
"""

import math

from timemachine.config import Tokens
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.ngrams import laplace
from timemachine.language_model import RNNLMScratch


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, float]:
    """Return the lowest perplexity of these n-grams on the validation targets: `val`."""
    return {"val": min(perplexity(data, order) for order in ((1, 2, 3) if data.vocab.kind is Tokens.bpe else (3,)))}


def perplexity(data: TimeMachine, order: int) -> float:
    """Return the perplexity of n-grams of one order on the validation targets."""
    train, val = (data.splits[name].targets for name in ("train", "val"))
    tokens_N, num_symbols, unk = data.tokens_N.numpy(), len(data.vocab), data.vocab.unk
    if unk not in tokens_N:  # no symbol of this text, so it gets no probability
        tokens_N, num_symbols = tokens_N - (tokens_N > unk), num_symbols - 1
    nll_N = laplace(tokens_N[: train.stop], tokens_N, val, order, num_symbols)
    return math.exp(nll_N.mean())

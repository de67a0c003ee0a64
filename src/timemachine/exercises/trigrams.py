"""Validation perplexity of the book's n-grams (section 9.3): a probe, and the baseline of a run that learns.

N-grams are counted in the training text and smoothed by adding 1 to each count (Laplace): trigrams of letters. Most
trigrams of byte-pair tokens occur only once, and smoothing makes them worse than bigrams, so for tokens the
baseline is the best of unigrams, bigrams and trigrams.
"""

import math
from collections import Counter

from timemachine.config import Tokens
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, float]:
    """Return the lowest perplexity of these n-grams on the validation targets: `val`."""
    return {"val": min(perplexity(data, order) for order in ((1, 2, 3) if data.vocab.kind is Tokens.bpe else (3,)))}


def perplexity(data: TimeMachine, order: int) -> float:
    """Return the perplexity of n-grams of one order on the validation targets."""
    train, val = (data.splits[name].targets for name in ("train", "val"))
    tokens = data.tokens_N.tolist()
    ngrams, contexts = (
        Counter(tuple(tokens[place : place + length]) for place in range(train.stop - length + 1))
        for length in (order, order - 1)
    )
    nll = 0.0
    for place in val:
        before = tuple(tokens[place - order + 1 : place])
        nll -= math.log((ngrams[*before, tokens[place]] + 1) / (contexts[before] + len(data.vocab) - 1))  # no <unk>
    return math.exp(nll / len(val))

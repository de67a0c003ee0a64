"""Validation perplexity of the book's trigrams (section 9.3): a probe, and the bar that a run has to pass.

Trigrams are counted in the training text and smoothed by adding 1 to each count (Laplace).
"""

import math
from collections import Counter

from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, float]:
    """Return the perplexity of trigrams on the validation targets: `val`."""
    train, val = (data.splits[name].targets for name in ("train", "val"))
    tokens = data.tokens_N.tolist()
    trigrams = Counter(tuple(tokens[place : place + 3]) for place in range(train.stop - 2))
    pairs = Counter(tuple(tokens[place : place + 2]) for place in range(train.stop - 1))
    nll = 0.0
    for place in val:
        before = tuple(tokens[place - 2 : place])
        nll -= math.log((trigrams[*before, tokens[place]] + 1) / (pairs[before] + len(data.vocab) - 1))  # no <unk>
    return {"val": math.exp(nll / len(val))}

"""The best interpolated n-grams of the training text, of any vocabulary, as a probe: a baseline of the network.

Modified Kneser-Ney smoothing, of the order with the lowest perplexity on the validation text. The targets are those of
`exercises.stream`.
"""

from typing import Any

import numpy as np

from timemachine.datamodule import TimeMachine
from timemachine.evaluation.ngrams import kneser_ney
from timemachine.exercises.stream import parts
from timemachine.language_model import RNNLMScratch
from timemachine.perplexity import num_bytes

MAX_ORDER = 5


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return the order, and perplexity and bits per byte on the targets of val and test; {} without targets of val."""
    tokens_N, targets_of = data.tokens_N.numpy().astype(np.int64), parts(data)
    train_N, num_symbols = tokens_N[: data.splits["train"].targets.stop], len(data.vocab)
    if not targets_of["val"]:
        return {}

    def nll_of(part: str, order: int) -> float:
        """Return the mean negative log-likelihood of a split's targets, in nats."""
        return float(kneser_ney(train_N, tokens_N, targets_of[part], order, num_symbols).mean())

    orders = [order for order in range(1, MAX_ORDER + 1) if num_symbols**order <= 1 << 63]  # see `evaluation.ngrams`
    order = min(orders, key=lambda order: nll_of("val", order))
    scores: dict[str, Any] = {"order": order}
    for part in ("val", "test"):
        if targets := targets_of[part]:
            nll = nll_of(part, order)
            bits = nll / np.log(2) * len(targets) / num_bytes(data.tokens_N, targets, data.vocab)
            scores[part] = {"perplexity": float(np.exp(nll)), "bits_per_byte": float(bits)}
    return scores

"""The best interpolated n-grams of the training text, of any vocabulary, as a probe: a baseline of the network.

Modified Kneser-Ney smoothing, of the order with the lowest perplexity on the validation text.
"""

from typing import Any

import torch

from timemachine.datamodule import TimeMachine
from timemachine.evaluation.ngrams import best_order, kneser_ney
from timemachine.evaluation.scores import score
from timemachine.language_model import RNNLMScratch
from timemachine.study.stream import with_bytes

MAX_ORDER = 5


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return the order, and the scores of the targets of val and test."""
    text_N, size = data.tokens_N.numpy(), len(data.vocab)
    train_N = text_N[: data.splits["train"].targets.stop]
    order = best_order(train_N, text_N, data.splits["val"].targets, size, MAX_ORDER)
    scores: dict[str, Any] = {"order": order}
    for part in ("val", "test"):
        if targets := data.splits[part].targets:
            nll_N = torch.from_numpy(kneser_ney(train_N, text_N, targets, order, size))
            scores[part] = with_bytes(score(nll_N), data.tokens_N, targets, data.vocab)
    return scores

"""Stream perplexity of each split on the same characters for every `data.num_steps` up to 64.

The targets of a split depend on the length of its windows. To make them equal, 64 characters are skipped at each border
between splits.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import WARM_UP, score
from timemachine.language_model import RNNLMScratch
from timemachine.perplexity import in_evaluation_mode, num_bytes

MARGIN = 64  # characters
STREAMS = 128  # read in parallel
PARTS = {"val": "validation", "test": "rest of the text"}  # held-out split -> its name in reports


def parts(data: TimeMachine) -> dict[str, range]:
    """Return the targets of train, val and test."""
    train, val = data.splits["train"].starts, data.splits["val"].starts
    ends = {"train": (0, train.stop), "val": (val.start, val.stop), "test": (val.stop, len(data.tokens_N))}
    return {name: range(start + MARGIN, stop) for name, (start, stop) in ends.items()}


@in_evaluation_mode
def stream_nll(model: RNNLMScratch, tokens_N: Tensor, targets: range) -> Tensor:
    """Return the negative log-likelihoods of the targets (N,), float64, in nats, read as 128 parallel streams.

    Each stream first reads the 512 characters before it, or as many as precede the first target. A single stream, as in
    `evaluation.scores`, takes many times as long, and the models of the exercises forget within far fewer characters.
    """
    warm_up, length = min(WARM_UP, targets.start - 1), -(-len(targets) // STREAMS)
    text_N = F.pad(tokens_N[targets.start - 1 - warm_up : targets.stop], (0, STREAMS * length - len(targets)))
    windows_BT = text_N.unfold(0, warm_up + length + 1, length).long()
    nll_BT = model.nll((windows_BT[:, :-1], windows_BT[:, 1:]))
    return nll_BT[:, warm_up:].flatten()[: len(targets)].double()


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, dict[str, Any]]:
    """Return the perplexity of each split, its standard error, bits per character and byte, and the characters read."""
    found = {}
    for name, targets in parts(data).items():
        if targets:
            of = score(stream_nll(model, data.tokens_N.to(model.device), targets))
            numbers = {"perplexity": of.perplexity, "standard_error": of.standard_error, "bits": of.bits}
            numbers["bits_per_byte"] = of.bits * of.num_targets / num_bytes(data.tokens_N, targets, data.vocab)
            found[name] = numbers | {"characters": of.num_targets}
    return found

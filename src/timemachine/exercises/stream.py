"""Stream perplexity of each split on the same characters for every `data.num_steps` up to 64.

The targets of a split depend on the length of its windows. To make them equal, 64 characters are skipped at each border
between splits.
"""

from dataclasses import asdict

import torch.nn.functional as F
from torch import Tensor

from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import WARM_UP, score
from timemachine.language_model import RNNLMScratch
from timemachine.perplexity import in_evaluation_mode, num_bytes
from timemachine.vocab import Vocab

MARGIN = 64  # characters
STREAMS = 128  # read in parallel
PARTS = {"val": "validation", "test": "rest of the text"}  # held-out split -> its name in reports; not train


def parts(data: TimeMachine) -> dict[str, range]:
    """Return the targets of train, val and test."""
    train, val = data.splits["train"].starts, data.splits["val"].starts
    ends = {"train": (0, train.stop), "val": (val.start, val.stop), "test": (val.stop, len(data.tokens_N))}
    return {name: range(start + MARGIN, stop) for name, (start, stop) in ends.items()}


@in_evaluation_mode
def parallel_nll(model: RNNLMScratch, tokens_N: Tensor, targets: range) -> Tensor:
    """Return the negative log-likelihoods of the targets (N,), float64, in nats, read as 128 parallel streams.

    Each stream first reads the 512 characters before it, or as many as precede the first target. A single stream, as in
    `evaluation.scores`, takes many times as long, and the models of the exercises forget within far fewer characters.
    """
    warm_up, length = min(WARM_UP, targets.start - 1), -(-len(targets) // STREAMS)
    text_N = F.pad(tokens_N[targets.start - 1 - warm_up : targets.stop], (0, STREAMS * length - len(targets)))
    windows_BT = text_N.unfold(0, warm_up + length + 1, length).long()
    nll_BT = model.nll((windows_BT[:, :-1], windows_BT[:, 1:]))
    return nll_BT[:, warm_up:].flatten()[: len(targets)].double()


def scores(model: RNNLMScratch, tokens_N: Tensor, targets: range, vocab: Vocab) -> dict[str, float]:
    """Return the perplexity of the targets, its standard error, bits per character and byte, and their number."""
    found = score(parallel_nll(model, tokens_N.to(model.device), targets))
    per_byte = found.bits * found.num_targets / num_bytes(tokens_N, targets, vocab)
    return asdict(found) | {"bits_per_byte": per_byte}


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, dict[str, float]]:
    """Return the scores of each split."""
    return {name: scores(model, data.tokens_N, targets, data.vocab) for name, targets in parts(data).items() if targets}

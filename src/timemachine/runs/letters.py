"""What a model that knows the frequencies of the training characters alone makes of a run's text.

N characters, V vocabulary.
"""

import math

import torch

from timemachine.datamodule import TimeMachine


def letters_perplexity(data: TimeMachine, split: str) -> float:
    """Return the perplexity of the characters that a split's windows predict, each once, under the frequencies of the
    training characters, with one added to each count.
    """
    starts, stop = data.splits[split].starts, data.splits["train"].targets.stop
    predicted_N = data.chars_N[starts.start + 1 : starts.stop + data.num_steps]
    known_V = torch.bincount(data.chars_N[:stop], minlength=len(data.vocab)).double() + 1
    known_V[data.vocab.unk] = 0  # no text has it
    predicted_V = torch.bincount(predicted_N, minlength=len(data.vocab)).double()
    log_p = torch.xlogy(predicted_V, known_V).sum() / predicted_V.sum() - known_V.sum().log()
    return math.exp(-log_p)

"""Stream perplexity of each split on the same characters, whatever `data.num_steps` is up to 64.

Windows of another length end elsewhere, so the splits' own targets differ by some characters. Here 64 of them are left
out at each border.
"""

from typing import Any

from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import stream_score
from timemachine.language_model import RNNLMScratch

MARGIN = 64  # characters


def parts(data: TimeMachine) -> dict[str, range]:
    """Return the targets of train, val and test."""
    train, val = data.splits["train"].starts, data.splits["val"].starts
    ends = {"train": (0, train.stop), "val": (val.start, val.stop), "test": (val.stop, len(data.chars_N))}
    return {name: range(start + MARGIN, stop) for name, (start, stop) in ends.items()}


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, dict[str, Any]]:
    """Return perplexity, its standard error, bits per character and number of characters, of train, val and test."""
    chars_N = data.chars_N.cpu()
    scores = {name: stream_score(model.cpu(), chars_N, targets) for name, targets in parts(data).items() if targets}
    return {
        name: {
            "perplexity": score.perplexity,
            "standard_error": score.standard_error,
            "bits": score.bits,
            "characters": score.num_targets,
        }
        for name, score in scores.items()
    }

"""Perplexity of each split read as one stream, as a probe."""

from dataclasses import asdict

from torch import Tensor

from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import Score, score, stream_nll
from timemachine.language_model import RNNLMScratch
from timemachine.perplexity import in_evaluation_mode, num_bytes
from timemachine.vocab import Vocab

PARTS = {"val": "validation", "test": "rest of the text"}  # held-out split -> its name in reports
SCORES = {  # column of a table -> column of the jobs
    f"{unit}, {name}": f"stream/{part}/{unit.replace(' ', '_')}"
    for unit in ("perplexity", "bits per byte")
    for part, name in PARTS.items()
}
SCORE_FORMATS = {name: ".1f" if name.startswith("perplexity") else ".3f" for name in SCORES}


@in_evaluation_mode
def scores(model: RNNLMScratch, tokens_N: Tensor, targets: range, vocab: Vocab) -> dict[str, float]:
    """Return the perplexity of the targets, its standard error, bits per token and byte, and their number."""
    return with_bytes(score(stream_nll(model, tokens_N.to(model.device), targets)), tokens_N, targets, vocab)


def with_bytes(score: Score, tokens_N: Tensor, targets: range, vocab: Vocab) -> dict[str, float]:
    """Return the entries of a score, and its bits per byte."""
    return asdict(score) | {"bits_per_byte": score.bits * score.num_targets / num_bytes(tokens_N, targets, vocab)}


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, dict[str, float]]:
    """Return the scores of each split."""
    targets = {name: split.targets for name, split in data.splits.items() if split.targets}
    return {name: scores(model, data.tokens_N, part, data.vocab) for name, part in targets.items()}

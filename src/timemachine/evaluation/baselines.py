"""N-grams as baselines of a model, for evaluate.py: they learn from the same characters as the model.

N targets.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from timemachine.config import format_value
from timemachine.corpus import Corpus
from timemachine.errors import SettingError
from timemachine.evaluation.ngrams import kneser_ney
from timemachine.evaluation.scores import LanguageModel, PartScores, as_trained, mean_and_error, score, stream_nll
from timemachine.perplexity import num_bytes
from timemachine.regularized.mixture import Mixture, log_loss
from timemachine.regularized.symbols import Symbols
from timemachine.run.console import print_table
from timemachine.vocab import Vocab

ORDERS = range(8)  # order 0 is the uniform distribution
MODEL, KNESER_NEY, MIXTURE = "the model", "n-grams, Kneser-Ney", "mixture of n-grams"


class Baselines:
    """Kneser-Ney n-grams and the mixture of n-grams, trained on a text of at most 256 symbols.

    The mixture takes 10 seconds for 90% of the novel.
    """

    def __init__(self, vocab: Vocab, train: str) -> None:
        self.symbols = Symbols.of(vocab)
        self.train = self.symbols.encode(train)
        self.mixture = Mixture(self.symbols)
        self.mixture.learn(self.train)

    def nll(self, characters: str, targets: range) -> dict[str, Tensor]:
        """Return each baseline's negative log-likelihoods (N,), float64, in nats, of the targets of a text.

        The order of the Kneser-Ney n-grams is the one that is best on these targets.
        """
        text, size = self.symbols.encode(characters), len(self.symbols)
        nlls = [torch.from_numpy(kneser_ney(self.train, text, targets, order, size)) for order in ORDERS]
        log_p_NV = self.mixture.read(text, targets)
        return {
            KNESER_NEY: min(nlls, key=lambda nll_N: nll_N.mean().item()),
            MIXTURE: torch.from_numpy(log_loss(log_p_NV, text, targets)),
        }


def with_context(targets: range) -> range:
    """Return the targets with enough characters before them for n-grams of every order."""
    return range(max(targets.start, max(ORDERS) - 1), targets.stop)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The scores of a model and of its baselines on the same targets, read as one stream.

    `differences`: name of a baseline -> the mean of the model's negative log-likelihoods minus the baseline's, in nats,
    and its standard error, from paired blocks of 100 characters.
    """

    rows: list[PartScores]
    differences: dict[str, tuple[float, float]]


def compare_with_ngrams(
    model: LanguageModel, vocab: Vocab, summary: dict[str, Any], corpora: list[Corpus], own: Corpus
) -> Iterator[Comparison]:
    """Compare a model with its baselines on each held-out part of each text. `own`: the text that they are trained on.

    Raises SettingError if `own` is not the run's text. The vocabulary has at most 256 symbols.
    """
    if own.sha256 != summary["corpus"]["sha256"]:
        raise SettingError(
            f"baselines=true: {format_value(own.source)} is not the text that the run was trained on; use "
            "data.search_dirs=[<the folder of that text>]"
        )
    own, _, splits = as_trained(summary, own, vocab)
    baselines = Baselines(vocab, own.characters[: splits["train"].targets.stop])
    for corpus in corpora:
        text, tokens_N, splits = as_trained(summary, corpus, vocab)
        for part, split in splits.items():
            targets = with_context(split.targets)
            if part != "train" and targets:
                model_N, others = stream_nll(model, tokens_N, targets), baselines.nll(text.characters, targets)
                size = num_bytes(tokens_N, targets, vocab)
                nlls = {MODEL: model_N} | others
                rows = [PartScores(text.name, part, name, score(nll_N), size) for name, nll_N in nlls.items()]
                yield Comparison(rows, {name: mean_and_error(model_N - nll_N) for name, nll_N in others.items()})


def print_comparison(comparison: Comparison, label: str = "") -> None:
    """Print the scores of the model and of its baselines, and their differences; `label`: before the title."""
    differences = {
        name: f"{mean:+.3f} ±{error:.3f}".removesuffix(" ±nan")  # of a single block of characters
        for name, (mean, error) in comparison.differences.items()
    }
    lines = [
        [row.model, str(row.stream), f"{row.bits_per_byte:.3f}", differences.get(row.model, "")]
        for row in comparison.rows
    ]
    row = comparison.rows[0]
    title = (
        f"{label}on {row.text}, {row.part}, {row.stream.num_targets:,} characters; differences in nats per character"
    )
    print_table(title, ["model", "stream", "bits/byte", "model minus this"], lines)

"""Kneser-Ney n-grams as a baseline of a model, for evaluate.py: they learn from the same tokens as the model.

N tokens or targets.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from timemachine.config import format_value
from timemachine.corpus import Corpus
from timemachine.errors import SettingError
from timemachine.evaluation.ngrams import best_order, kneser_ney
from timemachine.evaluation.scores import LanguageModel, PartScores, as_trained, mean_and_error, score, stream_nll
from timemachine.perplexity import num_bytes
from timemachine.run.console import print_table
from timemachine.vocab import Vocab

MAX_ORDER = 7
MODEL, KNESER_NEY = "the model", "n-grams, Kneser-Ney"


def ngrams_nll(vocab: Vocab, train_N: Tensor, tokens_N: Tensor, targets: range) -> Tensor:
    """Return the negative log-likelihoods (N,), float64, in nats, of the targets under n-grams of the training tokens.

    Their order is the one that is best on these targets, which have at least six tokens before them (`with_context`).
    """
    train, text = (each.numpy() for each in (train_N, tokens_N))
    order = best_order(train, text, targets, len(vocab), MAX_ORDER)
    return torch.from_numpy(kneser_ney(train, text, targets, order, len(vocab)))


def with_context(targets: range) -> range:
    """Return the targets with enough tokens before them for n-grams of every order."""
    return range(max(targets.start, MAX_ORDER - 1), targets.stop)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The scores of a model and of n-grams on the same targets, read as one stream.

    `difference`: the model's mean negative log-likelihood minus the n-grams', in nats, and its standard error, from
    paired blocks of 100 tokens.
    """

    model: PartScores
    ngrams: PartScores
    difference: tuple[float, float]


def compare_with_ngrams(
    model: LanguageModel, vocab: Vocab, summary: Mapping[str, Any], corpora: list[Corpus], own: Corpus
) -> Iterator[Comparison]:
    """Compare a model with n-grams on each held-out part of each text. `own`: the text that both are trained on.

    Raises SettingError if `own` is not the run's text.
    """
    if own.sha256 != summary["corpus"]["sha256"]:
        raise SettingError(
            f"baselines=true: {format_value(own.source)} is not the text that the run was trained on; use "
            "data.search_dirs=[<the folder of that text>]"
        )
    _, own_N, splits = as_trained(summary, own, vocab)
    train_N = own_N[: splits["train"].targets.stop]
    for corpus in corpora:
        text, tokens_N, splits = as_trained(summary, corpus, vocab)
        for part, split in splits.items():
            targets = with_context(split.targets)
            if part != "train" and targets:
                model_N, ngrams_N = stream_nll(model, tokens_N, targets), ngrams_nll(vocab, train_N, tokens_N, targets)
                size = num_bytes(tokens_N, targets, vocab)
                yield Comparison(
                    PartScores(text.name, part, MODEL, score(model_N), size),
                    PartScores(text.name, part, KNESER_NEY, score(ngrams_N), size),
                    mean_and_error(model_N - ngrams_N),
                )


def print_comparison(comparison: Comparison) -> None:
    """Print the scores of the model and of the n-grams, and their difference."""
    mean, error = comparison.difference
    difference = f"{mean:+.3f} ±{error:.3f}".removesuffix(" ±nan")  # of a single block of tokens
    row = comparison.model
    lines = [
        [each.model, str(each.stream), f"{each.bits_per_byte:.3f}", minus]
        for each, minus in ((row, ""), (comparison.ngrams, difference))
    ]
    title = f"on {row.text}, {row.part}, {row.stream.num_targets:,} targets; the difference is in nats per target"
    print_table(title, ["model", "stream", "bits/byte", "model minus this"], lines)

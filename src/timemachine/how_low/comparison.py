"""A model beside others that learnt from the same characters, for evaluate.py: n-grams, the mixture of them, PPMd.

PPMd is a compressor that predicts each character from those before and learns from it: a mark for models that adapt.
Cleary and Witten, "Data compression using adaptive coding and partial string matching", IEEE Transactions on
Communications 32(4), 1984; Shkarin, "PPM: one step to practicality", 2002. The coder is 7-Zip's, PPMd var. H, which
`pip install -e '.[baselines]'` adds as pyppmd.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from timemachine.config import format_value
from timemachine.corpus import Corpus
from timemachine.errors import SettingError
from timemachine.evaluation.scores import LanguageModel, Score, paired, score, splits_of, stream_nll
from timemachine.evaluation.tables import table_row, with_error
from timemachine.how_low.mixture import Mixture, log_loss
from timemachine.how_low.ngrams import ORDERS, kneser_ney, witten_bell
from timemachine.runs.tables import print_table, print_text
from timemachine.vocab import Vocab

PPMD_ORDER = 6  # of 2 to 16 none is better on the novel's next 5 %, or on the last 1,000 of the book's training targets
PPMD_MEMORY = 1 << 24  # bytes: 7-Zip's default, too
PPMD = f"PPMd, order {PPMD_ORDER}"
MIXTURE = "mixture of n-grams"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A model, and others that learnt from the same training characters, on the same characters, as one stream.

    `ngrams`: smoothing -> perplexity of the orders 0 to 7; `best`: the best of them. `mixture`, `adapting`: the mixture
    of n-grams as it is, and learning on. `ppmd`: PPMd's perplexity, which learns on; None if pyppmd is not installed.
    `differences`: the best n-gram, or the mixture -> the model's mean negative log-likelihood less its, in nats, and
    the standard error, over blocks of 100 characters, paired.
    """

    text: str
    part: str
    model: Score
    ngrams: dict[str, list[float]]
    best: str
    mixture: Score
    adapting: Score
    ppmd: float | None
    differences: dict[str, tuple[float, float]]


def compare(
    model: LanguageModel, vocab: Vocab, summary: dict[str, Any], corpora: list[Corpus], own: Corpus
) -> Iterator[Comparison]:
    """Compare on each held-out part of each text. `own`: the text that the model was trained on, as the others are.

    The mixture of n-grams learns its training characters first, 90 % of the novel in 10 seconds, and each part anew
    from there. Raises SettingError if `own` is another text.
    """
    if own.sha256 != summary["corpus"]["sha256"]:
        raise SettingError(
            f"baselines=true: {format_value(own.source)} is not the text that the run was trained on; type "
            "data.search_dirs=[<the folder of that text>]"
        )
    train = own.characters[: splits_of(summary, own)["train"].targets.stop]
    mixture = Mixture()
    mixture.read(train, range(len(train)), learn=True)
    for corpus in corpora:
        chars_N = vocab.encode(corpus.characters)
        for part, split in splits_of(summary, corpus).items():
            targets = range(max(split.targets.start, ORDERS[-1] - 1), split.targets.stop)
            if part != "train" and targets:
                yield _comparison(corpus, part, targets, train, mixture, stream_nll(model, chars_N, targets))


def _comparison(
    corpus: Corpus, part: str, targets: range, train: bytes, mixture: Mixture, model_N: Tensor
) -> Comparison:
    """Compare a model's negative log-likelihoods of the targets (N,) with those of others that know `train`."""
    text = corpus.characters
    by_ngrams = {
        name: [torch.from_numpy(smoothed(train, text, targets, order)) for order in ORDERS]
        for name, smoothed in (("Witten-Bell", witten_bell), ("Kneser-Ney", kneser_ney))
    }
    ngrams = {name: [nll_N.mean().exp().item() for nll_N in nlls] for name, nlls in by_ngrams.items()}
    _, name, order = min((ngrams[name][order], name, order) for name in ngrams for order in ORDERS)
    fixed_N = torch.from_numpy(log_loss(mixture.read(text, targets), text, targets))
    adapting = copy.deepcopy(mixture).read(text, targets, learn=True)
    adapting_N = torch.from_numpy(log_loss(adapting, text, targets))
    model, fixed, learning = (score(nll_N, torch.ones_like(nll_N)) for nll_N in (model_N, fixed_N, adapting_N))
    ppmd = None
    if find_spec("pyppmd") is not None:
        ppmd = 2 ** (ppmd_bits(train, text[targets.start : targets.stop]) / len(targets))
    best = f"{order}-gram, {name}"
    differences = {best: paired(model_N, by_ngrams[name][order]), "the mixture": paired(model_N, fixed_N)}
    return Comparison(corpus.name, part, model, ngrams, best, fixed, learning, ppmd, differences)


def ppmd_bits(known: bytes, text: bytes, order: int = PPMD_ORDER) -> int:
    """Return how many bits longer `known` and then `text` are than `known` alone, each coded as whole bytes.

    Raises ImportError without pyppmd.
    """
    from pyppmd import Ppmd7Encoder  # an extra

    def coded(characters: bytes) -> int:
        encoder = Ppmd7Encoder(order, PPMD_MEMORY)
        return 8 * (len(encoder.encode(characters)) + len(encoder.flush(endmark=False)))

    return coded(known + text) - coded(known)


def print_comparison(comparison: Comparison) -> None:
    """Print the n-grams' table, then the model and what is compared with it."""
    rows = [
        [str(order), *(f"{perplexity:.2f}" for perplexity in perplexities)]
        for order, perplexities in enumerate(zip(*comparison.ngrams.values(), strict=True))
    ]
    print_table(
        f"n-grams on {comparison.text}, {comparison.part}: stream", ["order", *comparison.ngrams], rows, len(rows[0])
    )
    same = [
        ["the model", with_error(comparison.model), ""],
        [MIXTURE, with_error(comparison.mixture), with_error(comparison.adapting)],
    ]
    if comparison.ppmd:
        same.append([PPMD, "", f"{comparison.ppmd:.2f}"])
    print_table(f"on the same {comparison.model.num_targets:,} characters", ["model", "fixed", "adapting"], same, 3)
    if not comparison.ppmd:
        print_text("PPMd is left out, as pyppmd is not installed: pip install -e '.[baselines]'")
    print_text("the model less another, in nats a character (paired over blocks of 100):")
    for name, (mean, error) in comparison.differences.items():
        print_text(f"{mean:+.3f} ±{error:.3f} {name}")


def comparison_rows(found: Comparison) -> list[list[Any]]:
    """Return a row of `evaluation.tables.COLUMNS` for each model that the comparison has beside the run's."""
    best = min(min(perplexities) for perplexities in found.ngrams.values())
    without_error = {found.best: best} | ({f"{PPMD}, adapting": found.ppmd} if found.ppmd else {})
    rows: list[list[Any]] = [
        [found.text, found.part, name, found.model.num_targets, None, None, perplexity, None, math.log2(perplexity)]
        for name, perplexity in without_error.items()
    ]
    rows.append(table_row(found.text, found.part, MIXTURE, found.mixture))
    return [*rows, table_row(found.text, found.part, f"{MIXTURE}, adapting", found.adapting)]

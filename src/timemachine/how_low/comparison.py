"""Compare a model with others that learn from the same text, for evaluate.py: n-grams, their mixture, PPMd.

PPMd is a compressor that predicts each character from the previous ones, then learns it: an adapting baseline.
Cleary and Witten, "Data compression using adaptive coding and partial string matching", IEEE Transactions on
Communications 32(4), 1984; Shkarin, "PPM: one step to practicality", 2002. The coder is 7-Zip's PPMd var. H in the
package pyppmd, which `pip install -e '.[baselines]'` installs.
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
from timemachine.evaluation.scores import LanguageModel, Row, Score, as_trained, mean_difference, score, stream_nll
from timemachine.how_low.mixture import Mixture, log_loss
from timemachine.how_low.ngrams import ORDERS, kneser_ney, witten_bell
from timemachine.how_low.symbols import Symbols
from timemachine.perplexity import num_bytes
from timemachine.run.console import print_table, print_text
from timemachine.vocab import Vocab

PPMD_ORDER = 6  # of 2 to 16, best on the novel's next 5% and on the last 1,000 of the book's training targets
PPMD_MEMORY = 1 << 24  # bytes, 7-Zip's default
PPMD = f"PPMd, order {PPMD_ORDER}, adapting"
MODEL, MIXTURE = "the model", "mixture of n-grams"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Scores of a model and of others trained on the same characters, all on the same targets, read as one stream.

    `rows`: first the fixed models (the run's, the best n-grams, the mixture), then the adapting ones; PPMd is the last,
    if pyppmd is installed, and has no standard error. `ngrams`: smoothing -> perplexities of the orders 0 to 7.
    `differences`: name of another fixed model -> the mean of the run's negative log-likelihoods minus the other's, in
    nats, and its standard error, from paired blocks of 100 characters.
    """

    rows: list[Row]
    ngrams: dict[str, list[float]]
    differences: dict[str, tuple[float, float]]


def compare(
    model: LanguageModel, vocab: Vocab, summary: dict[str, Any], corpora: list[Corpus], own: Corpus
) -> Iterator[Comparison]:
    """Compare the models on each held-out part of each text. `own`: the text that they are trained on.

    The mixture of n-grams learns the training characters first, 90% of the novel in 10 seconds. It adapts to each part
    from that state. Raises SettingError if `own` is not the run's text. The vocabulary has at most 256 symbols.
    """
    if own.sha256 != summary["corpus"]["sha256"]:
        raise SettingError(
            f"baselines=true: {format_value(own.source)} is not the text that the run was trained on; use "
            "data.search_dirs=[<the folder of that text>]"
        )
    own, _, splits = as_trained(summary, own, vocab)
    train = own.characters[: splits["train"].targets.stop]
    symbols = Symbols.of(vocab)
    mixture = Mixture(symbols)
    mixture.read(symbols.encode(train), range(len(train)), learn=True)
    for corpus in corpora:
        text, tokens_N, splits = as_trained(summary, corpus, vocab)
        for part, split in splits.items():
            # The longest n-grams need this many characters before a target, and all models have the same targets.
            targets = range(max(split.targets.start, ORDERS[-1] - 1), split.targets.stop)
            if part != "train" and targets:
                size = num_bytes(tokens_N, targets, vocab)
                yield _comparison(text, part, targets, size, train, mixture, stream_nll(model, tokens_N, targets))


def _comparison(
    corpus: Corpus, part: str, targets: range, size: int, train: str, mixture: Mixture, model_N: Tensor
) -> Comparison:
    """Compare a model's NLLs of the targets (N,), `size` bytes in total, with the NLLs of models trained on `train`."""
    symbols = mixture.symbols
    known, text = symbols.encode(train), symbols.encode(corpus.characters)
    by_ngrams = {
        name: [torch.from_numpy(smoothed(known, text, targets, order, len(symbols))) for order in ORDERS]
        for name, smoothed in (("Witten-Bell", witten_bell), ("Kneser-Ney", kneser_ney))
    }
    ngrams = {name: [nll_N.mean().exp().item() for nll_N in nlls] for name, nlls in by_ngrams.items()}
    _, name, order = min((ngrams[name][order], name, order) for name in ngrams for order in ORDERS)
    fixed = {MODEL: model_N, f"{order}-gram, {name}": by_ngrams[name][order]}
    fixed[MIXTURE] = torch.from_numpy(log_loss(mixture.read(text, targets), text, targets))
    # A copy, so that learning on this part does not help on the next.
    learning_N = torch.from_numpy(log_loss(copy.deepcopy(mixture).read(text, targets, learn=True), text, targets))
    scores = {name: score(nll_N) for name, nll_N in (fixed | {f"{MIXTURE}, adapting": learning_N}).items()}
    if find_spec("pyppmd") is not None:
        bits = ppmd_bits(symbols, known, text[targets.start : targets.stop]) / len(targets)
        # A coder gives the length of the whole text, not of each character: no blocks, no standard error.
        scores[PPMD] = Score(2**bits, math.nan, bits, len(targets))
    rows = [Row(corpus.name, part, name, found, size) for name, found in scores.items()]
    differences = {name: mean_difference(model_N, nll_N) for name, nll_N in fixed.items() if name != MODEL}
    return Comparison(rows, ngrams, differences)


def ppmd_bits(symbols: Symbols, known: bytes, text: bytes) -> int:
    """Return the bits of `text` after `known`, both as numbers of symbols. Raises ImportError without pyppmd."""
    from pyppmd import Ppmd7Encoder  # an extra

    def coded(numbers: bytes) -> int:
        encoder = Ppmd7Encoder(PPMD_ORDER, PPMD_MEMORY)
        return 8 * (len(encoder.encode(numbers.translate(symbols.as_ascii))) + len(encoder.flush(endmark=False)))

    return coded(known + text) - coded(known)


def print_comparison(found: Comparison) -> None:
    """Print the table of n-grams, then the comparison of the models."""
    orders = zip(*found.ngrams.values(), strict=True)
    lines = [[str(order), *(f"{perplexity:.2f}" for perplexity in row)] for order, row in enumerate(orders)]
    text, part, _, stream, *_ = found.rows[0]
    print_table(f"n-grams on {text}, {part}: stream", ["order", *found.ngrams], lines)
    differences = {name: f"{mean:+.3f} ±{error:.3f}" for name, (mean, error) in found.differences.items()}
    lines = [
        [row.model, str(row.stream), f"{row.bits_per_byte:.3f}", differences.get(row.model, "")] for row in found.rows
    ]
    title = f"on the same {stream.num_targets:,} characters; differences in nats per character, paired in blocks of 100"
    print_table(title, ["model", "perplexity", "bits/byte", "model minus this (nats)"], lines)
    if find_spec("pyppmd") is None:
        print_text("PPMd is omitted because pyppmd is not installed; use pip install -e '.[baselines]'")

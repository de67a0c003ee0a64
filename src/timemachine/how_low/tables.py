"""What evaluate.py prints of comparisons and of dynamic evaluation, and their rows in W&B."""

import math
from typing import Any

from timemachine.evaluation.scores import Score
from timemachine.evaluation.tables import table_row, with_error
from timemachine.how_low.comparison import PPMD_ORDER, Comparison
from timemachine.runs.tables import print_table, print_text

MIXTURE = "mixture of n-grams"
PPMD = f"PPMd, order {PPMD_ORDER}"


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


def adapting_rows(text: str, scores: dict[str, Score]) -> list[list[Any]]:
    """Return a row of `evaluation.tables.COLUMNS` for each part of a text under dynamic evaluation."""
    return [table_row(text, part, "model, adapting", found) for part, found in scores.items()]


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


def print_adapting(text: str, scores: dict[str, Score], rate: float) -> None:
    """Print the perplexities under dynamic evaluation, apart from those of the fixed model."""
    for part, found in scores.items():
        print_text(
            f"{text}, {part}, dynamic evaluation with a kNN cache, rate {rate:g}: "
            f"stream {with_error(found)}, {found.bits:.3f} bits a character"
        )

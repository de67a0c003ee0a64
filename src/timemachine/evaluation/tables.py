"""What evaluate.py prints."""

import math
from typing import Any

from timemachine.corpus import Corpus
from timemachine.evaluation.ppm import ORDER
from timemachine.evaluation.scores import Comparison, Row, Score
from timemachine.runs.tables import print_table, print_text

COLUMNS = ["text", "part", "model", "characters", "window", "window, error", "stream", "stream, error", "bits"]
MIXTURE = "mixture of n-grams"
PPMD = f"PPMd, order {ORDER}"


def as_lines(rows: list[Row], comparisons: list[Comparison], adapting: dict[str, dict[str, Score]]) -> list[list[Any]]:
    """Return what is printed as lines of `COLUMNS`: the model's, those of what it is compared with, the adapting one's.

    `adapting`: name of a text -> its part -> score. Errors are standard errors; bits are the stream's.
    """

    def stream(text: str, part: str, model: str, found: Score) -> list[Any]:
        numbers = (found.perplexity, found.standard_error, found.bits)
        return [text, part, model, found.num_targets, None, None, *numbers]

    lines = []
    for row in rows:
        line = stream(row.text, row.part, "model", row.stream)
        lines.append([*line[:4], row.window.perplexity, row.window.standard_error, *line[6:]])
    for found in comparisons:
        best = min(min(perplexities) for perplexities in found.ngrams.values())
        marks = {found.best: best} | ({f"{PPMD}, adapting": found.ppmd} if found.ppmd else {})
        for name, perplexity in marks.items():
            numbers = (perplexity, None, math.log2(perplexity))
            lines.append([found.text, found.part, name, found.model.num_targets, None, None, *numbers])
        lines.append(stream(found.text, found.part, MIXTURE, found.mixture))
        lines.append(stream(found.text, found.part, f"{MIXTURE}, adapting", found.adapting))
    for text, scores in adapting.items():
        lines += [stream(text, part, "model, adapting", found) for part, found in scores.items()]
    return lines


def print_evaluation(rows: list[Row], runs: list[str]) -> None:
    """Print one table for all texts."""
    of_what = runs[0] if len(runs) == 1 else f"{len(runs)} models as one: {', '.join(runs)}"
    lines, previous = [], None
    for row in rows:
        name = row.text if row.source != previous else ""
        previous = row.source
        numbers = (_with_error(row.window), _with_error(row.stream), f"{row.stream.bits:.3f}")
        lines.append([name, row.part, f"{row.stream.num_targets:,}", *numbers])
    columns = ("text", "part", "characters", "window", "stream", "bits/char")
    print_table(f"perplexity of {of_what}", columns, lines, left=2)
    print_text(
        "± standard error; window: every window from a zero state, as in the book; stream: one pass, state carried, "
        "which is what to compare models on; bits a character are the stream's."
    )
    for text, replaced in {row.source: (row.text, row.replaced) for row in rows}.values():
        counts = f"{replaced['digits']:,} digits, {replaced['accents']:,} accented letters, {replaced['other']:,} other"
        left_out = f"; {replaced['left_out']:,} around them are Project Gutenberg's" if replaced["left_out"] else ""
        print_text(f"{text}: normalisation made spaces of {counts} characters{left_out}")


def print_comparison(comparison: Comparison) -> None:
    """Print the n-grams' table, then the model and what is compared with it."""
    lines = [
        [str(order), *(f"{perplexity:.2f}" for perplexity in perplexities)]
        for order, perplexities in enumerate(zip(*comparison.ngrams.values(), strict=True))
    ]
    print_table(
        f"n-grams on {comparison.text}, {comparison.part}: stream", ["order", *comparison.ngrams], lines, len(lines[0])
    )
    same = [
        ["the model", _with_error(comparison.model), ""],
        [MIXTURE, _with_error(comparison.mixture), _with_error(comparison.adapting)],
    ]
    if comparison.ppmd:
        same.append([PPMD, "", f"{comparison.ppmd:.2f}"])
    print_table(f"on the same {comparison.model.num_targets:,} characters", ["model", "fixed", "adapting"], same, 3)
    if not comparison.ppmd:
        print_text("PPMd is left out, as pyppmd is not installed: pip install -e '.[baselines]'")
    print_text("the model less another, in nats a character (paired over blocks of 100):")
    for name, (mean, error) in comparison.differences.items():
        print_text(f"{mean:+.3f} ±{error:.3f} {name}")


def print_adapting(corpus: Corpus, scores: dict[str, Score], rate: float) -> None:
    """Print the perplexities of a model that goes on learning, apart from those of the fixed one."""
    for part, found in scores.items():
        print_text(
            f"{corpus.name}, {part}, learning at a rate of {rate:g} from what it has read, and looking it up: "
            f"stream {_with_error(found)}, {found.bits:.3f} bits a character"
        )


def _with_error(found: Score) -> str:
    """Return the perplexity and its standard error, which a text of one block of characters does not tell."""
    error = "" if math.isnan(found.standard_error) else f" ±{found.standard_error:.2f}"
    return f"{found.perplexity:.2f}{error}"

"""What evaluate.py prints."""

import math
from typing import Any

from rich import box
from rich.table import Table

from timemachine.corpus import Corpus
from timemachine.evaluation.ppm import ORDER
from timemachine.evaluation.scores import Comparison, Row, Score
from timemachine.runs.tables import print_table

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
    table = Table(box=box.SIMPLE_HEAD, title=f"perplexity of {of_what}")
    for name in ("text", "part", "characters", "window", "stream", "bits/char"):
        table.add_column(name, justify="left" if name in ("text", "part") else "right", no_wrap=True)
    previous = None
    for row in rows:
        first = row.source != previous
        previous = row.source
        table.add_row(
            row.text if first else "",
            row.part,
            f"{row.stream.num_targets:,}",
            _with_error(row.window),
            _with_error(row.stream),
            f"{row.stream.bits:.3f}",
        )
    print_table(table)
    print("± standard error; window: every window from a zero state, as in the book; stream: one pass, state carried,")
    print("which is what to compare models on; bits a character are the stream's.")
    for text, replaced in {row.source: (row.text, row.replaced) for row in rows}.values():
        counts = f"{replaced['digits']:,} digits, {replaced['accents']:,} accented letters, {replaced['other']:,} other"
        left_out = f"; {replaced['left_out']:,} around them are Project Gutenberg's" if replaced["left_out"] else ""
        print(f"{text}: normalisation made spaces of {counts} characters{left_out}")


def print_comparison(comparison: Comparison) -> None:
    """Print the n-grams' table, then the model and what is compared with it."""
    columns = ("order", *comparison.ngrams)
    table = Table(*columns, box=box.SIMPLE_HEAD, title=f"n-grams on {comparison.text}, {comparison.part}: stream")
    for order, perplexities in enumerate(zip(*comparison.ngrams.values(), strict=True)):
        table.add_row(str(order), *(f"{perplexity:.2f}" for perplexity in perplexities))
    print_table(table)
    same = Table(f"on the same {comparison.model.num_targets:,} characters", "fixed", "adapting", box=box.SIMPLE_HEAD)
    same.add_row("the model", _with_error(comparison.model))
    same.add_row(MIXTURE, _with_error(comparison.mixture), _with_error(comparison.adapting))
    if comparison.ppmd:
        same.add_row(PPMD, "", f"{comparison.ppmd:.2f}")
    print_table(same)
    if not comparison.ppmd:
        print("PPMd is left out, as pyppmd is not installed: pip install -e '.[baselines]'")
    print("the model less another, in nats a character (paired over blocks of 100):")
    for name, (mean, error) in comparison.differences.items():
        print(f"{mean:+.3f} ±{error:.3f} {name}")


def print_adapting(corpus: Corpus, scores: dict[str, Score], rate: float) -> None:
    """Print the perplexities of a model that goes on learning, apart from those of the fixed one."""
    for part, found in scores.items():
        print(
            f"{corpus.name}, {part}, learning at a rate of {rate:g} from what it has read, and looking it up: "
            f"stream {_with_error(found)}, {found.bits:.3f} bits a character"
        )


def _with_error(found: Score) -> str:
    """Return the perplexity and its standard error, which a text of one block of characters does not tell."""
    error = "" if math.isnan(found.standard_error) else f" ±{found.standard_error:.2f}"
    return f"{found.perplexity:.2f}{error}"

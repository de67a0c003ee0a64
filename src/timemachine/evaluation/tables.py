"""What evaluate.py prints of a model's scores, and their rows in W&B."""

import math
from typing import Any

from timemachine.evaluation.scores import Row, Score
from timemachine.runs.tables import print_table, print_text

COLUMNS = ["text", "part", "model", "characters", "window", "window, error", "stream", "stream, error", "bits"]


def table_row(text: str, part: str, model: str, stream: Score, window: Score | None = None) -> list[Any]:
    """Return a row of `COLUMNS`. Errors are standard errors; bits are the stream's."""
    of_windows = (None, None) if window is None else (window.perplexity, window.standard_error)
    of_stream = (stream.perplexity, stream.standard_error, stream.bits)
    return [text, part, model, stream.num_targets, *of_windows, *of_stream]


def print_evaluation(rows: list[Row], runs: list[str]) -> None:
    """Print one table for all texts."""
    models = runs[0] if len(runs) == 1 else f"{len(runs)} models as one: {', '.join(runs)}"
    lines, previous = [], None
    for row in rows:
        name, previous = "" if row.corpus is previous else row.corpus.name, row.corpus
        numbers = (with_error(row.window), with_error(row.stream), f"{row.stream.bits:.3f}")
        lines.append([name, row.part, f"{row.stream.num_targets:,}", *numbers])
    columns = ("text", "part", "characters", "window", "stream", "bits/char")
    print_table(f"perplexity of {models}", columns, lines, left=2)
    print_text(
        "± standard error; window: every window from a zero state, as in the book; stream: one pass, state carried, "
        "which is what to compare models on; bits a character are the stream's."
    )
    for corpus in {row.corpus.sha256: row.corpus for row in rows}.values():
        replaced = corpus.replaced()
        counts = f"{replaced['digits']:,} digits, {replaced['accents']:,} accented letters, {replaced['other']:,} other"
        left_out = f"; {corpus.left_out:,} around them are Project Gutenberg's" if corpus.left_out else ""
        print_text(f"{corpus.name}: normalisation made spaces of {counts} characters{left_out}")


def with_error(found: Score) -> str:
    """Return the perplexity with its standard error, which a text of one block of characters does not have."""
    error = "" if math.isnan(found.standard_error) else f" ±{found.standard_error:.2f}"
    return f"{found.perplexity:.2f}{error}"

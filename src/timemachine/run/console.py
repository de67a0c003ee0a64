"""Print numbers, texts and tables."""

import math
import re
from collections.abc import Sequence

NUMBERS = re.compile(r"[-+−±–.,%*\de ]*|-?inf|nan|null")  # a number, also with an interval, or a missing one
CELL_NAMES = {"rnn": "an RNN", "gru": "a GRU", "lstm": "an LSTM", "deep_rnn": "a deep RNN"}


def short(perplexity: float, decimals: int = 3) -> str:
    """Return the perplexity with `decimals`, a million or more in scientific notation, NaN as a dash."""
    if math.isnan(perplexity):
        return "–"
    return f"{perplexity:.{decimals}f}" if perplexity < 1e6 else f"{perplexity:.3g}"


def print_beginning(cell: str, hiddens: int, title: str) -> None:
    """Print which model a run trains on which text."""
    print_text(f"Training {CELL_NAMES.get(cell, f'the cell {cell}')} with {hiddens:,} hidden units on {title}.")


def print_size(parameters: int, vocabulary: int) -> None:
    """Print the size of the model, and the perplexity of guessing, which is the size of the vocabulary."""
    print_text(f"It has {parameters:,} parameters. Guessing has a perplexity of {vocabulary:,}.")


def printable(text: str) -> str:
    """Escape control characters, except line feeds, since a terminal would obey them."""
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text)


def print_text(text: str) -> None:
    """Print a text with control characters escaped."""
    print(printable(text), flush=True)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of texts; without `columns` it has no header.

    Columns of numbers are aligned right, others left. On a terminal, cells are wrapped between words; elsewhere, lines
    are as long as the table needs. Rich's markup is not interpreted, and control characters are escaped.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, show_header=bool(columns))
    shown = [[printable(cell) for cell in row] for row in rows]
    for heading, *cells in zip(map(printable, columns) if columns else [""] * len(rows[0]), *shown, strict=True):
        is_of_numbers = all(map(NUMBERS.fullmatch, cells)) and any(map(str.strip, cells))
        every = [heading, *cells]
        longest = max(len(word) for cell in every for word in [*cell.split(), ""])
        is_one_word = longest == max(map(len, every))  # such as a number; then Rich narrows the other columns
        table.add_column(
            Text(heading), justify="right" if is_of_numbers else "left", overflow="fold", no_wrap=is_one_word,
            min_width=longest,
        )  # fmt: skip
    for row in shown:
        table.add_row(*map(Text, row))
    least = sum(3 + (column.min_width or 0) for column in table.columns) + 1  # 3: the space between columns
    console.width = max(console.width, least) if console.is_terminal else 10_000
    print_text(title)
    console.print(table)

"""Print numbers, texts and tables."""

import re
import sys
from collections.abc import Sequence
from typing import Any

from timemachine.errors import one_line

NUMBERS = re.compile(r"[-+−±–.,%*\de ]*|-?inf|nan|null")  # a number, also with an interval, or a missing one


def printable(text: str) -> str:
    """Escape control characters, except line feeds, since a terminal would obey them."""
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text)


def error_line(error: object) -> str:
    """Return the line that a program prints for an error, which may quote a file of a run's folder."""
    return printable(f"error: {one_line(error)}")


def print_text(text: str) -> None:
    """Print a text with control characters escaped."""
    print(printable(text), flush=True)


def print_continuations(texts: Sequence[str], prefix: str, is_one_line: bool) -> None:
    """Print continuations of a prefix. A pipe gets them as they are; on a terminal they have quotes and a bold prefix.

    `is_one_line`: they have no line breaks, so that no empty lines are needed between them.
    """
    on_terminal = sys.stdout.isatty()
    if on_terminal:  # a text may end in spaces
        rests = [printable(text.removeprefix(prefix)) for text in texts]
        texts = [f'"\x1b[1m{printable(prefix)}\x1b[22m{rest}"' for rest in rests]
    print(*texts, sep="\n" if is_one_line and not on_terminal else "\n\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of texts; without `columns` it has no header. Columns of numbers are aligned right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console, table = Console(highlight=False), Table(box=box.SIMPLE_HEAD, show_header=bool(columns))
    shown = [[printable(cell) for cell in row] for row in rows]
    for heading, *cells in zip(map(printable, columns) if columns else [""] * len(rows[0]), *shown, strict=True):
        is_of_numbers = all(map(NUMBERS.fullmatch, cells)) and any(map(str.strip, cells))
        is_of_words = not any(" " in cell for cell in (heading, *cells))  # which a narrow terminal would break
        justify: Any = "right" if is_of_numbers else "left"
        table.add_column(Text(heading), justify=justify, overflow="fold", no_wrap=is_of_words)
    for row in shown:
        table.add_row(*map(Text, row))
    needed = console.measure(table, options=console.options.update(width=10_000))
    # On a terminal, cells are wrapped between words only.
    console.width = max(console.width, needed.minimum) if console.is_terminal else 10_000
    print_text(title)
    console.print(table)

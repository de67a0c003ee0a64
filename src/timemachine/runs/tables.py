"""Numbers, texts and tables on the terminal."""

import math
import re
import shutil
import sys
import textwrap
from collections.abc import Collection, Sequence
from typing import Literal


def short(perplexity: float) -> str:
    """Return the number with three decimals, in scientific notation if that is a line of digits, or a dash for NaN."""
    if math.isnan(perplexity):
        return "–"
    return f"{perplexity:.3f}" if perplexity < 1e6 else f"{perplexity:.3g}"


def print_text(text: str) -> None:
    """Print a text; on a terminal lines that are too long end between words."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        folded = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
        text = "\n".join(map(folded.fill, text.splitlines()))
    print(text, flush=True)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], best: Collection[int] = ()) -> None:
    """Print a table of texts; no columns: no header. The rows of the numbers in `best` are bold on a terminal.

    Columns of numbers stand flush right, their decimal points below one another, others flush left. On a terminal cells
    are folded between words, and no word is broken; elsewhere lines are as long as the table is wide. Texts are shown
    as they are: no markup.
    """
    from rich import box
    from rich.align import Align
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, show_header=bool(columns))
    shown = []
    for heading, *cells in zip(columns or [""] * len(rows[0]), *rows, strict=True):
        lined_up = _lined_up(cells)
        side: Literal["left", "right"] = "right" if lined_up else "left"
        shown.append([Align(Text(cell), side) for cell in lined_up or cells])
        every = [heading, *cells]
        longest = max(len(word) for cell in every for word in [*cell.split(), ""])
        is_one_word = longest == max(map(len, every))  # such as a number: Rich takes the room from the others
        table.add_column(Text(heading, justify=side), overflow="fold", no_wrap=is_one_word, min_width=longest)
    for number, row in enumerate(zip(*shown, strict=True)):
        table.add_row(*row, style="bold" if number in best else None)
    least = sum(3 + (column.min_width or 0) for column in table.columns) + 1  # 3: what stands between columns
    console.width = max(console.width, least) if console.is_terminal else 10_000
    print_text(title)
    console.print(table)


def _lined_up(cells: Sequence[str]) -> list[str]:
    """Return the cells as they stand below one another with one place for decimal points; [] if one is no number.

    A number may be bold in Markdown, inf, nan, null, a dash or left out, and something may follow it.
    """
    found = [re.fullmatch(r"(\**[-+−]?(?:\d[\d,]*|inf|nan|null|–))((?:\D.*)?)|", cell) for cell in cells]
    parts = [(part[1] or "", part[2] or "") for part in found if part]
    if len(parts) < len(cells) or not any(whole.strip("–") for whole, _ in parts):
        return []
    before, after = (max(map(len, of_all)) for of_all in zip(*parts, strict=True))
    return [f"{whole:>{before}}{rest:{after}}" for whole, rest in parts]

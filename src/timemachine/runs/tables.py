"""Numbers, texts and tables on the terminal."""

import math
import shutil
import sys
import textwrap
from collections.abc import Sequence


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


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> None:
    """Print a table of texts, the first `left` columns flush left; no columns: no header.

    On a terminal cells are folded between words, and no word is broken; elsewhere lines are as long as the table is
    wide. Texts are shown as they are: no markup.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, emoji=False, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, show_header=bool(columns))
    for place, cells in enumerate(zip(*([columns] if columns else []), *rows, strict=True)):
        longest = max(len(word) for cell in cells for word in [*cell.split(), ""])
        is_one_word = longest == max(map(len, cells))  # such as a number: Rich takes the room from the others
        table.add_column(
            cells[0] if columns else "", justify="left" if place < left else "right", overflow="fold",
            no_wrap=is_one_word, min_width=longest,
        )  # fmt: skip
    for row in rows:
        table.add_row(*row)
    least = sum(3 + (column.min_width or 0) for column in table.columns) + 1  # 3: what stands between columns
    console.width = max(console.width, least) if console.is_terminal else 10_000
    print_text(title)
    console.print(table)

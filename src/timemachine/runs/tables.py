"""Numbers, texts and tables on the terminal."""

import shutil
import sys
import textwrap
from collections.abc import Sequence


def short(perplexity: float) -> str:
    """Return the number with three decimals, or in scientific notation if that is a line of digits."""
    return f"{perplexity:.3f}" if perplexity < 1e6 else f"{perplexity:.3g}"


def print_text(text: str) -> None:
    """Print a text; on a terminal its lines end between words."""
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        text = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
    print(text, flush=True)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> None:
    """Print a table of texts, the first `left` columns flush left; no columns: no header.

    On a terminal that is too narrow cells are folded between words, or each row is a block, a line a column. Elsewhere
    lines are as long as the table is wide. Texts are shown as they are: no markup.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = 10_000
    cells = list(zip(*([columns] if columns else []), *rows, strict=True))
    longest = [max(len(word) for cell in column for word in [*cell.split(), ""]) for column in cells]
    if title:
        print_text(title)
    if columns and sum(longest) + 3 * len(cells) + 1 > console.width:  # 3: what stands between columns
        for row in rows:
            print_table("", (), list(zip(columns, row, strict=True)), left=2)
        return
    table = Table(box=box.SIMPLE_HEAD, show_header=bool(columns))
    for place, (column, word) in enumerate(zip(cells, longest, strict=True)):
        is_one_word = word == max(map(len, column))  # such as a number: Rich takes the room from the others
        table.add_column(
            columns[place] if columns else "", justify="left" if place < left else "right", overflow="fold",
            no_wrap=is_one_word, min_width=word,
        )  # fmt: skip
    for row in rows:
        table.add_row(*row)
    console.print(table)

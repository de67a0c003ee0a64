"""Numbers and tables as text: on the terminal, in Markdown."""

import math
import statistics
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def mean_sd(values: Iterable[float]) -> str:
    """Return mean ± standard deviation, or the one value, or a dash for none."""
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        return "–"
    if len(numbers) == 1 or not all(map(math.isfinite, numbers)):
        return short(statistics.fmean(numbers))
    mean, deviation = statistics.fmean(numbers), statistics.stdev(numbers)
    return f"{mean:.2f} ± {deviation:.2f}" if mean < 1e4 else f"{mean:.1e} ± {deviation:.1e}"


def span(values: Iterable[float], form: str = ".3g") -> str:
    """Return the smallest and the largest, or the one value, or a dash for none."""
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        return "–"
    return " to ".join(dict.fromkeys(f"{number:{form}}" for number in (min(numbers), max(numbers))))


def short(perplexity: float) -> str:
    """Return the number with three decimals, or in scientific notation if that is a line of digits."""
    return f"{perplexity:.3f}" if perplexity < 1e6 else f"{perplexity:.3g}"


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (columns, ["---"] * len(columns), *rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def print_table(table: "Table") -> None:
    """Print a table whole: on a narrow terminal its lines are longer than the screen, but no number is cut."""
    from rich.console import Console
    from rich.text import Text

    class AsWritten(Console):
        """Measures a cell as the stream will write it: on an ASCII terminal ± takes two characters."""

        def render_str(self, text: str, **settings: Any) -> Text:
            errors = getattr(self.file, "errors", None) or "strict"
            return super().render_str(text.encode(self.encoding, errors).decode(self.encoding), **settings)

    needed = AsWritten(width=1000).measure(table).maximum
    AsWritten(width=max(Console().width, needed)).print(table)

"""Print numbers, texts and tables; quote a text for a command line of Hydra."""

import re
import shlex
import sys
from collections.abc import Sequence

from timemachine.errors import one_line

NUMBERS = re.compile(r"[-+−±–.,%*\de ]*|-?inf|nan|null")  # a number, also with an interval, or a missing one


def printable(text: str) -> str:
    """Escape control characters, except line feeds, since a terminal would obey them."""
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text)


def quoted(text: object) -> str:
    r"""Return a text, such as a path, as a value in Hydra's grammar, of which nothing is interpolated.

    Backslashes escape only what follows them: Hydra's a quote, also the one at the end, and OmegaConf's `${`. So `it's`
    becomes `'it\'s'`, `a\b` becomes `'a\b'`, and `${c}` becomes `'\${c}'`. Only `???` cannot be a value: to OmegaConf
    it is missing.
    """
    literal = re.sub(r"(\\*)\$\{", r"\1\1\${", str(text))
    return "'{}'".format(re.sub(r"(\\*)('|\Z)", lambda found: found[1] * 2 + found[2].replace("'", r"\'"), literal))


def folder_word(setting: str, folder: str) -> str:
    """Return a word of a command line, such as `hydra.run.dir=outputs/1`, quoted for Hydra and the shell if needed."""
    value = folder if re.fullmatch(r"[\w/.:+-]+", folder) else quoted(folder)
    return shlex.quote(f"{setting}={value}")


def with_quoted(name: str, words: Sequence[str]) -> list[str]:
    """Return the words of a command line, those that set `name` with their values quoted: as texts."""
    start = f"{name}="
    return [start + quoted(word.removeprefix(start)) if word.startswith(start) else word for word in words]


def error_line(error: object) -> str:
    """Return the line that a program prints for an error, which may quote a file of a run's folder."""
    return printable(f"error: {one_line(error)}")


def print_text(text: str) -> None:
    """Print a text with control characters escaped."""
    print(printable(text), flush=True)


def print_continuations(texts: Sequence[str], is_one_line: bool) -> None:
    """Print continuations. A pipe gets them as they are; on a terminal they have quotes, since they may end in spaces.

    `is_one_line`: they have no line breaks, so that no empty lines are needed between them.
    """
    if sys.stdout.isatty():
        texts = [f'"{printable(text)}"' for text in texts]
    print(*texts, sep="\n" if is_one_line else "\n\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table of texts; without `columns` it has no header. Columns of numbers are aligned right."""
    from tabulate import tabulate

    aligned = ["right" if all(map(NUMBERS.fullmatch, cells)) else "left" for cells in zip(*rows, strict=True)]
    table = tabulate(rows, columns, "simple", colalign=aligned, disable_numparse=True)
    print_text("\n".join([title, "", *(f"  {line.rstrip()}" for line in table.splitlines()), ""]))

"""python -m tests.benchmarks.zpaq: the compressor zpaq as a reader of what the models of exercise how_low read.

zpaq 7.15 at its strongest, `zpaq add x.zpaq text -m5`: many models of the next bit, mixed by a small network (Mahoney).
As for PPMd, the bits of a part are those of the archive of the known characters with that part after them, less those
of the archive of the known ones alone. Known is what the models were trained on, and nothing between that and the part.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from timemachine.config import Data
from timemachine.corpus import find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.run.console import print_table

BOOKS = "time_machine", "war_of_the_worlds", "alices_adventures_in_wonderland"


def archived_bits(text: str) -> int:
    """Return the length of an archive that has a text alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "text").write_text(text, encoding="utf-8")
        subprocess.run(["zpaq", "add", "x.zpaq", "text", "-m5"], cwd=folder, check=True, capture_output=True)
        return 8 * Path(folder, "x.zpaq").stat().st_size


def rows(data: TimeMachine, name: str) -> list[list[str]]:
    """Return a row for each held-out part of a text."""
    text, known = data.corpus.characters, data.corpus.characters[: data.splits["train"].targets.stop]
    found, of_known = [], archived_bits(known)
    for part in ("val", "test"):
        targets = data.splits[part].targets
        bits = (archived_bits(known + text[targets.start : targets.stop]) - of_known) / len(targets)
        of_part = f"{targets.start:,} to {targets.stop - 1:,}"
        found.append([data.corpus.title, name, part, of_part, f"{len(known):,}", f"{2**bits:.2f}", f"{bits:.3f}"])
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.zpaq", description="zpaq's perplexity")
    parser.add_argument("folder", nargs="?", default=Data().search_dirs[0], help="where the books are")
    folders = [parser.parse_args().folder]
    if shutil.which("zpaq") is None:
        sys.exit("error: zpaq is not installed; type sudo apt-get install zpaq")
    novels = [row for book in BOOKS for row in rows(_data(book, folders), "90 / 5 / 5 %")]
    book = rows(_data(BOOKS[0], folders, 10_000, 5_000), "the book's")
    columns = ["text", "split", "part", "characters", "known before", "perplexity", "bits"]
    print_table("zpaq -m5", columns, [*novels, *book])


def _data(book: str, folders: list[str], num_train: int | None = None, num_val: int | None = None) -> TimeMachine:
    return TimeMachine(num_train=num_train, num_val=num_val, corpus=find_corpus(book, folders))


if __name__ == "__main__":
    main()

"""Exercises 6 and 7: bits per character on every book found, compared with n-grams of the same training characters.

Each book is scored on `TARGETS`, the characters after the book's training and validation parts, up to the length of the
shortest book of the catalogue. Books are rotated by the run's `data.start`, so all models with the same start are
scored on the same characters, and none on its training or validation text. The run's own text is scored on its test
part, cut to the same number of characters.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from timemachine.config import REPOSITORY, Data
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.evaluation.scores import score
from timemachine.exercises.groups import unique
from timemachine.exercises.stream import stream_nll
from timemachine.how_low import LETTERS, witten_bell
from timemachine.language_model import RNNLMScratch
from timemachine.run.jobs import Job
from timemachine.texts import CATALOGUE

TARGETS = range(15_032, 135_032)  # 10,000 + 5,000 windows of 32 characters, and 120,000 characters after them
IN_BITS = (
    "Bits per character of a text read as one stream; the perplexity is 2 to that power. ± is half of the 95 % "
    "interval over training excerpts, each with a different seed; the scored characters of a book hardly change "
    "between excerpts. n-gram: a Witten-Bell model of the same characters as the network, with the order that is best "
    "on validation."
)
ORDERS = range(1, 8)  # Witten-Bell orders; validation chooses one


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return the training text, and each book's scores under the model and under the n-grams.

    A score has the perplexity, its standard error, bits per character and the number of characters. Does not download
    books.
    """
    model.cpu()
    own = data.corpus
    text, val = LETTERS.encode(own.characters), data.splits["val"].targets
    train = text[: data.splits["train"].targets.stop]
    order = min(ORDERS, key=lambda n: np.mean(witten_bell(train, text, val, n, len(LETTERS)))) if val else 4
    folders = [str(own.paths[0].parent.resolve()), *Data().search_dirs]
    others = [book.rotated(data.start) for book in at_hand(folders) if book.sha256 != own.sha256]
    pieces = [(own, data.splits["test"].targets[: len(TARGETS)])]
    pieces += [(book, TARGETS[: max(0, len(book.characters) - TARGETS.start)]) for book in others]
    books = {}
    for book, targets in pieces:
        if targets:
            text = LETTERS.encode(book.characters)
            ngram_N = torch.from_numpy(witten_bell(train, text, targets, order, len(LETTERS)))
            stream = score(stream_nll(model, data.vocab.encode(book.characters), targets))
            books[book.name] = _named(book) | {"stream": asdict(stream), "witten_bell": asdict(score(ngram_N))}
    about = {"trained_on": own.name, "train_characters": len(train), "witten_bell_order": order}
    return _named(own) | about | {"books": books}


def at_hand(search_dirs: list[str]) -> list[Corpus]:
    """Return the books of the catalogue found in `search_dirs` or the user's cache, without other editions.

    Does not download books.
    """
    from timemachine.texts.download import cache

    books = []
    for name in CATALOGUE:
        for folder in [*search_dirs, str(cache())]:
            if (REPOSITORY / folder / f"{name}.txt").is_file():
                with suppress(SettingError):  # the file is another edition
                    books.append(find_corpus(name, [folder]))
                    break
    return books


def _named(book: Corpus) -> dict[str, str]:
    author = CATALOGUE[book.name].author if book.name in CATALOGUE else ""
    return {"title": book.title, "author": author}


def by_training(jobs: Iterable[Job]) -> dict[tuple[str, int], list[Job]]:
    """Return the completed jobs that scored books, by training text and number of training characters."""
    groups: dict[tuple[str, int], list[Job]] = {}
    for job in jobs:
        if job.status == "completed" and (found := job.probes.get("books", {})).get("books"):
            groups.setdefault((found["trained_on"], found["train_characters"]), []).append(job)
    return dict(sorted(groups.items(), key=lambda item: item[0][1]))


def books_read(jobs: Iterable[Job]) -> dict[str, tuple[str, str]]:
    """Return the title and author of each book that the jobs scored, by name."""
    books = (book for job in jobs for book in job.probes["books"]["books"].items())
    return {name: (about["title"], about["author"]) for name, about in books}


def bits(jobs: Iterable[Job], book: str, model: str = "stream") -> dict[tuple[int, int], float]:
    """Return a book's bits per character by training excerpt (start, seed). `model`: `stream` or `witten_bell`."""
    found = unique(jobs, lambda job: (int(job.settings["data.start"]), int(job.settings["seed"])))
    read = {excerpt: job.probes["books"]["books"].get(book) for excerpt, job in found.items()}
    return {excerpt: float(scores[model]["bits"]) for excerpt, scores in read.items() if scores}

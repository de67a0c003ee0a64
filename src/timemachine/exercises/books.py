"""Exercises 6 and 7: bits a character of every book at hand, beside n-grams from the same characters as the model.

Of each book `TARGETS` are read: what the book's split leaves, as far as the shortest of the catalogue reaches. Each
begins at the run's `data.start`, so for one start all models read the same characters of a book, and none what it was
trained or validated on. Of the run's own text it is the test part, not more characters than that.
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
    "Bits a character, of a text as one stream; perplexity is 2 to their power. ± is half of the 95 % interval over "
    "excerpts, each of which has a seed of its own: what another excerpt would change, as of a book that is read the "
    "characters stay nearly the same. n-gram: Witten-Bell's, of the order that is best on validation, from the same "
    "characters as the model."
)
ORDERS = range(1, 8)  # of Witten-Bell n-grams, of which the best on validation is taken


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return what the model was trained on, and of each book the scores of its stream and of the n-grams.

    A score is perplexity with its standard error, bits a character and number of characters. Nothing is downloaded.
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
    """Return the catalogue's books, in its editions, in `search_dirs` or the user's cache; nothing is downloaded."""
    from timemachine.texts.download import cache

    books = []
    for name in CATALOGUE:
        for folder in [*search_dirs, str(cache())]:
            if (REPOSITORY / folder / f"{name}.txt").is_file():
                with suppress(SettingError):  # another edition
                    books.append(find_corpus(name, [folder]))
                    break
    return books


def _named(book: Corpus) -> dict[str, str]:
    author = CATALOGUE[book.name].author if book.name in CATALOGUE else ""
    return {"title": book.title, "author": author}


def by_training(jobs: Iterable[Job]) -> dict[tuple[str, int], list[Job]]:
    """Return the completed jobs that read books, by the text they were trained on and how many characters of it."""
    groups: dict[tuple[str, int], list[Job]] = {}
    for job in jobs:
        if job.status == "completed" and (found := job.probes.get("books", {})).get("books"):
            groups.setdefault((found["trained_on"], found["train_characters"]), []).append(job)
    return dict(sorted(groups.items(), key=lambda item: item[0][1]))


def books_read(jobs: Iterable[Job]) -> dict[str, tuple[str, str]]:
    """Return the title and author of each book that the jobs read, under its name."""
    books = (book for job in jobs for book in job.probes["books"]["books"].items())
    return {name: (about["title"], about["author"]) for name, about in books}


def bits(jobs: Iterable[Job], book: str, model: str = "stream") -> dict[tuple[int, int], float]:
    """Return the bits a character of a book by excerpt: where it starts, and its seed. `model`: or `witten_bell`."""
    found = unique(jobs, lambda job: (int(job.settings["data.start"]), int(job.settings["seed"])))
    read = {excerpt: job.probes["books"]["books"].get(book) for excerpt, job in found.items()}
    return {excerpt: float(scores[model]["bits"]) for excerpt, scores in read.items() if scores}

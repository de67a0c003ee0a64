"""Exercises 6 and 7: bits per character on every book found, compared with n-grams of the same training characters.

Each book is scored on `TARGETS`, the characters after the book's training and validation parts, up to the length of the
shortest book of the catalogue. Books are rotated by the run's `data.start`, so all models with the same start are
scored on the same characters, and none on its training or validation text. The run's own text is scored on its test
part, cut to the same number of characters. Models of byte-pair tokens read `OF_TOKENS` of every book.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from timemachine.config import REPOSITORY, Data, Tokens
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.evaluation.scores import Score, score
from timemachine.exercises.groups import reads_tokens, unique
from timemachine.exercises.stream import stream_nll
from timemachine.how_low import LETTERS, witten_bell
from timemachine.language_model import RNNLMScratch
from timemachine.perplexity import num_bytes
from timemachine.run.jobs import Job
from timemachine.texts import CATALOGUE
from timemachine.vocab import Vocab

TARGETS = range(15_032, 135_032)  # 10,000 + 5,000 windows of 32 characters, and 120,000 characters after them
OF_TOKENS = range(155_000, 178_000)  # characters after 55,032 tokens of The Time Machine, up to its end
ORDERS = range(1, 8)  # Witten-Bell orders; validation chooses one


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return the training text, and each book's scores under the model and, for letters, under the n-grams.

    A score has the perplexity, its standard error, bits per character or token, their number, and the stream's bits per
    byte. Does not download books.
    """
    model.cpu()
    own, train = data.corpus, data.splits["train"].targets
    folders = [str(own.paths[0].parent.resolve()), *Data().search_dirs]
    others = [book.rotated(data.start) for book in at_hand(folders, own.tokens) if book.sha256 != own.sha256]
    ngrams = NGrams(data) if own.tokens is Tokens.letters else None
    books = {}
    for book in (own, *others):
        tokens_N = data.vocab.encode(book.characters)
        first = data.splits["test"].targets.start if book is own else TARGETS.start
        targets = range(first, len(tokens_N))[: len(TARGETS)]
        if not ngrams:
            begin, stop = _tokens_of(book, tokens_N, data.vocab)
            targets = range(max(begin, first), stop)
        if targets:
            of_stream = score(stream_nll(model, tokens_N, targets))
            per_byte = of_stream.bits * of_stream.num_targets / num_bytes(tokens_N, targets, data.vocab)
            books[book.name] = _named(book) | {"stream": asdict(of_stream) | {"bits_per_byte": per_byte}}
            if ngrams:
                books[book.name]["witten_bell"] = asdict(ngrams.score(book, targets))
    about = {"trained_on": own.name, "train_characters": train.stop}
    return _named(own) | about | ({"witten_bell_order": ngrams.order} if ngrams else {}) | {"books": books}


def _tokens_of(book: Corpus, tokens_N: torch.Tensor, vocab: Vocab) -> list[int]:
    """Return the first of the tokens that end in `OF_TOKENS` of a book, and the first after them."""
    ends_N = vocab.bytes_V[tokens_N.long()].cumsum(0)
    borders = [len(book.characters[:place].encode()) for place in (OF_TOKENS.start, OF_TOKENS.stop)]
    return list(torch.searchsorted(ends_N, torch.tensor(borders), right=True).tolist())


class NGrams:
    """Witten-Bell n-grams of the training letters, with the order that is best on validation."""

    def __init__(self, data: TimeMachine) -> None:
        text, val = LETTERS.encode(data.corpus.characters), data.splits["val"].targets
        self.train = text[: data.splits["train"].targets.stop]
        means = {n: np.mean(witten_bell(self.train, text, val, n, len(LETTERS))) for n in ORDERS} if val else {4: 0.0}
        self.order = min(means, key=lambda n: means[n])

    def score(self, book: Corpus, targets: range) -> Score:
        """Return the score of the n-grams on a part of a book."""
        nll_N = witten_bell(self.train, LETTERS.encode(book.characters), targets, self.order, len(LETTERS))
        return score(torch.from_numpy(nll_N))


def at_hand(search_dirs: list[str], tokens: Tokens = Tokens.letters) -> list[Corpus]:
    """Return the books of the catalogue found in `search_dirs` or the user's cache, without other editions.

    Does not download books.
    """
    from timemachine.texts.download import cache

    books = []
    for name in CATALOGUE:
        for folder in [*search_dirs, str(cache())]:
            if (REPOSITORY / folder / f"{name}.txt").is_file():
                with suppress(SettingError):  # the file is another edition
                    books.append(find_corpus(name, [folder], tokens))
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


def range_read(jobs: list[Job]) -> range:
    """Return the characters of each book that the models read, those of tokens or of letters."""
    return OF_TOKENS if reads_tokens(jobs) else TARGETS


def bits_of(jobs: list[Job]) -> str:
    """Return the unit of `bits`."""
    return f"bits per {'byte' if reads_tokens(jobs) else 'character'}"


def explained(jobs: list[Job]) -> str:
    """Return the note on the scores of books."""
    if reads_tokens(jobs):
        return (
            "Bits per byte of a text read as one stream. ± is half of the 95 % interval over training excerpts, each "
            "with a different seed and other scored characters."
        )
    return (
        "Bits per character of a text read as one stream; the perplexity is 2 to that power. ± is half of the 95 % "
        "interval over training excerpts, each with a different seed and, since all books are rotated, other scored "
        "characters. n-gram: a Witten-Bell model of the same characters as the network, with the order that is best on "
        "validation."
    )


def bits(jobs: list[Job], book: str, model: str = "stream", name: str = "") -> dict[tuple[int, int], float]:
    """Return a book's bits per character, or of tokens per byte, by training excerpt (start, seed).

    `model`: `stream` or `witten_bell`; {} if it has no scores. `name`: of another number, such as `perplexity`.
    """
    name = name or ("bits_per_byte" if reads_tokens(jobs) else "bits")
    found = unique(jobs, lambda job: (int(job.settings["data.start"]), int(job.settings["seed"])))
    read = {excerpt: job.probes["books"]["books"].get(book) for excerpt, job in found.items()}
    return {excerpt: float(scores[model][name]) for excerpt, scores in read.items() if scores and model in scores}

"""Exercises 6 and 7: bits per character on every book found, compared with n-grams of the same training characters.

Each book is scored on `TARGETS`, the characters after the book's training and validation parts, up to the length of the
shortest book of the catalogue. Books are rotated by the run's `data.start`, so all models with the same start are
scored on the same characters, and none on its training or validation text. The run's own text is scored on its test
part, cut to the same number of characters. Models of byte-pair tokens read `TARGETS_FOR_TOKENS` of every book.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from timemachine.config import REPOSITORY, Tokens
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import SEARCH_DIRS, TimeMachine
from timemachine.errors import SettingError
from timemachine.evaluation.ngrams import witten_bell
from timemachine.evaluation.scores import score
from timemachine.exercises.comparison import excerpts
from timemachine.exercises.groups import completed, reads_tokens
from timemachine.exercises.stream import scores
from timemachine.language_model import RNNLMScratch
from timemachine.regularized.symbols import LETTERS
from timemachine.run.jobs import Job
from timemachine.texts import CATALOGUE
from timemachine.vocab import Vocab

TARGETS = range(15_032, 135_032)  # 10,000 + 5,000 windows of 32 characters, and 120,000 characters after them
TARGETS_FOR_TOKENS = range(155_000, 178_000)  # characters after 55,032 tokens of The Time Machine, up to its end
ORDERS = range(1, 8)  # Witten-Bell orders; validation chooses one


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return the training text, and each book's scores under the model and, for letters, under the n-grams.

    A score has the perplexity, its standard error, bits per character or token, their number, and the stream's bits per
    byte. Does not download books.
    """
    model.cpu()
    own, train = data.corpus, data.splits["train"].targets
    folders = [str(own.paths[0].parent.resolve()), *SEARCH_DIRS]
    others = [book.rotated(data.start) for book in available_books(folders, own.tokens) if book.sha256 != own.sha256]
    is_letters = own.tokens is Tokens.letters
    order = _best_order(data) if is_letters else 0
    books = {}
    for book in (own, *others):
        tokens_N = data.vocab.encode(book.characters)
        first = data.splits["test"].targets.start if book is own else TARGETS.start
        targets = range(first, len(tokens_N))[: len(TARGETS)]
        if not is_letters:
            begin, stop = _tokens_of(book, tokens_N, data.vocab)
            targets = range(max(begin, first), stop)
        if targets:
            books[book.name] = _named(book) | {"stream": scores(model, tokens_N, targets, data.vocab)}
            if is_letters:
                known, text = LETTERS.encode(own.characters[: train.stop]), LETTERS.encode(book.characters)
                nll_N = witten_bell(known, text, targets, order, len(LETTERS))
                books[book.name]["witten_bell"] = asdict(score(torch.from_numpy(nll_N)))
    about = {"trained_on": own.name, "train_characters": train.stop}
    return _named(own) | about | ({"witten_bell_order": order} if is_letters else {}) | {"books": books}


def _tokens_of(book: Corpus, tokens_N: torch.Tensor, vocab: Vocab) -> list[int]:
    """Return the first of the tokens that end in `TARGETS_FOR_TOKENS` of a book, and the first after them."""
    ends_N = vocab.bytes_V[tokens_N.long()].cumsum(0)
    borders = [len(book.characters[:place].encode()) for place in (TARGETS_FOR_TOKENS.start, TARGETS_FOR_TOKENS.stop)]
    return list(torch.searchsorted(ends_N, torch.tensor(borders), right=True).tolist())


def _best_order(data: TimeMachine) -> int:
    """Return the order of the Witten-Bell n-grams of the training letters that is best on validation."""
    text, val = LETTERS.encode(data.corpus.characters), data.splits["val"].targets
    known = text[: data.splits["train"].targets.stop]
    return min(ORDERS, key=lambda order: float(np.mean(witten_bell(known, text, val, order, len(LETTERS)))))


def available_books(search_dirs: list[str], tokens: Tokens = Tokens.letters) -> list[Corpus]:
    """Return the books of the catalogue found in `search_dirs` or the user's cache, without other editions.

    Does not download books.
    """
    from timemachine.texts.download import cache_folder

    books = []
    for name in CATALOGUE:
        for folder in [*search_dirs, str(cache_folder())]:
            if (REPOSITORY / folder / f"{name}.txt").is_file():
                with suppress(SettingError):  # the file is another edition
                    books.append(find_corpus(name, [folder], tokens))
                    break
    return books


def _named(book: Corpus) -> dict[str, str]:
    author = CATALOGUE[book.name].author if book.name in CATALOGUE else ""
    return {"title": book.title, "author": author}


def by_training(jobs: list[Job]) -> dict[tuple[str, int], list[Job]]:
    """Return the completed jobs that scored books, by training text and number of training characters."""
    groups: dict[tuple[str, int], list[Job]] = {}
    for job in completed(jobs):
        if found := job.probes.get("books"):
            groups.setdefault((found["trained_on"], found["train_characters"]), []).append(job)
    return dict(sorted(groups.items(), key=lambda item: item[0][1]))


def books_read(groups: Mapping[Any, list[Job]]) -> dict[str, tuple[str, str]]:
    """Return the title and author of each book that the jobs scored, by name."""
    books = (book for group in groups.values() for job in group for book in job.probes["books"]["books"].items())
    return {name: (about["title"], about["author"]) for name, about in books}


def range_read(jobs: list[Job]) -> range:
    """Return the characters of each book that the models read, those of tokens or of letters."""
    return TARGETS_FOR_TOKENS if reads_tokens(jobs) else TARGETS


def bits_unit(jobs: list[Job]) -> str:
    """Return the unit of the numbers that `bits` returns."""
    return f"bits per {'byte' if reads_tokens(jobs) else 'character'}"


def scores_note(jobs: list[Job]) -> str:
    """Return the note on the scores of books."""
    if reads_tokens(jobs):
        return (
            "Bits per byte of a text read as one stream. ± is the half-width of the 95% interval over training "
            "excerpts, each with a different seed and other scored characters."
        )
    return (
        "Bits per character of a text read as one stream; the perplexity is 2 to that power. ± is the half-width of "
        "the 95% interval over training excerpts, each with a different seed and, since all books are rotated, other "
        "scored characters. n-gram: a Witten-Bell model of the same characters as the network, with the order that is "
        "best on validation."
    )


def bits(jobs: list[Job], book: str, model: str = "stream", name: str = "") -> dict[int, float]:
    """Return a book's bits per character, or per byte if the runs read tokens, by training excerpt.

    `model`: `stream` (the network) or `witten_bell` (the n-grams). The result is empty if this model has no scores.
    `name`: the score to return instead of the bits, such as `perplexity`.
    """
    name = name or ("bits_per_byte" if reads_tokens(jobs) else "bits")
    scores_of = {start: job.probes["books"]["books"].get(book, {}) for start, job in excerpts(jobs).items()}
    return {start: float(found[model][name]) for start, found in scores_of.items() if model in found}

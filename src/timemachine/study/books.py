"""Exercises 6 and 7: scores of every book found, compared with n-grams of the same training characters.

Each book is scored on `TARGETS`, the characters after the book's training and validation parts, up to the length of the
shortest book of the catalogue. Books are rotated by the run's `data.start`, so all models with the same start are
scored on the same characters, and none on its training or validation text. The run's own text is scored on its test
part, cut to the same number of characters. Models of byte-pair tokens read `TARGETS_FOR_TOKENS` of every book.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from pandas import DataFrame, MultiIndex

from timemachine.config import REPOSITORY, Tokens
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import SEARCH_DIRS, TimeMachine
from timemachine.errors import SettingError
from timemachine.evaluation.ngrams import best_order, kneser_ney
from timemachine.evaluation.scores import score
from timemachine.language_model import RNNLMScratch
from timemachine.study.stream import scores, with_bytes
from timemachine.texts import CATALOGUE
from timemachine.vocab import Vocab

REQUIRES = {"data.tokens": ("letters", "bpe")}  # vocabularies that encode any book
TARGETS = range(15_032, 135_032)  # 10,000 + 5,000 windows of 32 characters, and 120,000 characters after them
TARGETS_FOR_TOKENS = range(155_000, 178_000)  # characters after 55,032 tokens of The Time Machine, up to its end
MAX_ORDER = 7  # of the n-grams; validation chooses the order
TRAINING = ["trained on", "tokens"]
SCORED = f"""
`data.start` rotates every book to start at that character. A model of letters reads characters {TARGETS.start:,} to
{TARGETS.stop - 1:,} of each rotated book, a model of byte pairs characters {TARGETS_FOR_TOKENS.start:,} to
{TARGETS_FOR_TOKENS.stop - 1:,}. Perplexities and bits are of the text read as one stream. ± is the half-width of the
95% interval over training excerpts, each with a different seed and other scored characters."""


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return each book's scores under the model and under the n-grams of the order that is best on validation.

    A score has the perplexity, its standard error, bits per token and byte, and the number of tokens.
    `train_characters`: the number of training characters or tokens. Does not download books.
    """
    model.cpu()
    own, train, size = data.corpus, data.splits["train"].targets, len(data.vocab)
    folders = [*(str(path.parent.resolve()) for path in own.paths[:1]), *SEARCH_DIRS]
    others = [book.rotated(data.start) for book in available_books(folders, own.tokens) if book.sha256 != own.sha256]
    own_N = data.tokens_N.numpy()
    order = best_order(own_N[: train.stop], own_N, data.splits["val"].targets, size, MAX_ORDER)
    books = {}
    for book in (own, *others):
        tokens_N = data.vocab.encode(book.characters)
        first = data.splits["test"].targets.start if book is own else TARGETS.start
        targets = range(first, len(tokens_N))[: len(TARGETS)]
        if own.tokens is Tokens.bpe:
            begin, stop = _tokens_of(book, tokens_N, data.vocab)
            targets = range(max(begin, first), stop)
        if targets:
            nll_N = kneser_ney(own_N[: train.stop], tokens_N.numpy(), targets, order, size)
            books[book.name] = {
                "stream": scores(model, tokens_N, targets, data.vocab),
                "kneser_ney": with_bytes(score(torch.from_numpy(nll_N)), tokens_N, targets, data.vocab),
            }
    return {"train_characters": train.stop, "books": books, "order": order}


def _tokens_of(book: Corpus, tokens_N: torch.Tensor, vocab: Vocab) -> list[int]:
    """Return the first of the tokens that end in `TARGETS_FOR_TOKENS` of a book, and the first after them."""
    ends_N = vocab.bytes_V[tokens_N].cumsum(0)
    borders = [len(book.characters[:place].encode()) for place in (TARGETS_FOR_TOKENS.start, TARGETS_FOR_TOKENS.stop)]
    return list(torch.searchsorted(ends_N, torch.tensor(borders), right=True).tolist())


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


def scores_of_books(jobs: DataFrame, score: str) -> DataFrame:
    """Return a score, such as `stream/perplexity`, of each book read (columns) by each model (rows).

    Models without this score are dropped; of repeated runs, the last counts. Rows are indexed by `TRAINING`, start and
    seed.
    """
    jobs = jobs[jobs["status"] == "completed"]
    books = {
        name: name.split("/")[2] for name in jobs if name.startswith("books/books/") and name.endswith(f"/{score}")
    }
    models = {
        "trained on": jobs["data.corpus"].map(lambda corpus: Path(corpus).stem),
        "tokens": jobs["books/train_characters"],
        "start": jobs["data.start"],
        "seed": jobs["seed"],
    }
    index = MultiIndex.from_frame(DataFrame(models))
    read = jobs[[*books]].set_axis(index).rename(columns=books).dropna(how="all")
    return read[~read.index.duplicated(keep="last")]


def book_title(book: str) -> str:
    """Return the title of a book, or the name of a text that is not in the catalogue."""
    return CATALOGUE[book].title if book in CATALOGUE else book


def book_author(book: str) -> str:
    """Return the author of a book, "" for a text that is not in the catalogue."""
    return CATALOGUE[book].author if book in CATALOGUE else ""

"""Exercises 6 and 7: perplexity on every book at hand, beside n-grams trained on the same characters as the model.

Of each book the same piece is read, `TARGETS`: what the book's split leaves of it, as far as the shortest book of the
catalogue reaches. So books are compared at equal lengths, and a book's column is the same characters whatever a model
was trained on. Of the run's own text it is the test part, not more characters than that.
"""

from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from timemachine.config import Data
from timemachine.corpus import Corpus, at_hand
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import score, stream_score, window_score
from timemachine.how_low import laplace, witten_bell
from timemachine.language_model import RNNLMScratch
from timemachine.texts import CATALOGUE

TARGETS = range(15_032, 135_032)  # 10,000 + 5,000 windows of 32 characters, and 120,000 characters after them
STRIDE = 8  # characters between windows: all of them would take eight times as long, for the same to 0.01
LAPLACE = 3  # the order that the book's n-grams do best at
WITTEN_BELL = range(1, 8)  # orders, of which the best on validation is taken


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return what the model was trained on, and of each book its window and stream perplexity and the n-grams'.

    A perplexity comes with its standard error, bits per character and number of characters. Nothing is downloaded.
    """
    model.cpu()
    own = data.corpus
    train = own.characters[: data.splits["train"].targets.stop]
    val = data.splits["val"].targets
    order = min(WITTEN_BELL, key=lambda n: np.mean(witten_bell(train, own.characters, val, n))) if val else 4
    folders = [str(own.paths[0].parent.resolve()), *Data().search_dirs]
    others = [book for book in at_hand(folders) if book.sha256 != own.sha256]
    unseen = data.splits["test"].targets
    pieces = [(own, unseen[: len(TARGETS)])]
    pieces += [(book, TARGETS[: max(0, len(book.characters) - TARGETS.start)]) for book in others]
    return {
        "trained_on": own.name,
        "title": own.title,
        "author": _author(own),
        "train_characters": len(train),
        "witten_bell_order": order,
        "books": {
            book.name: {"title": book.title, "author": _author(book)}
            | _scores(model, data, train, order, book.characters, targets)
            for book, targets in pieces
            if len(targets) > data.num_steps
        },
    }


def _author(corpus: Corpus) -> str:
    return CATALOGUE[corpus.name].author if corpus.name in CATALOGUE else ""


def _scores(
    model: RNNLMScratch, data: TimeMachine, train: bytes, order: int, text: bytes, targets: range
) -> dict[str, dict[str, float]]:
    """Return four scores on the same characters; only the windows leave out the first, which is an input of theirs."""
    chars_N = data.vocab.encode(text)
    starts = range(targets.start, targets.stop - data.num_steps, STRIDE)
    nlls = {
        "laplace": laplace(train, text, targets, LAPLACE),
        "witten_bell": witten_bell(train, text, targets, order),
    }
    return {
        "window": asdict(window_score(model, chars_N, starts, data.num_steps)),
        "stream": asdict(stream_score(model, chars_N, targets)),
    } | {
        name: asdict(score(torch.from_numpy(nll_N), torch.ones(len(nll_N), dtype=torch.float64)))
        for name, nll_N in nlls.items()
    }

"""Exercises 6 and 7: bits a character of every book at hand, beside n-grams from the same characters as the model.

Of each book the same piece is read, `TARGETS`: what the book's split leaves of it, as far as the shortest book of the
catalogue reaches. All books begin where the run's own text does, at `data.start`. So models of excerpts that begin at
the same place read the same characters of a book, and none reads what it was trained or validated on. Of the run's own
text it is the test part, not more characters than that.
"""

from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from timemachine.config import Data
from timemachine.corpus import Corpus, at_hand
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import score, stream_score
from timemachine.how_low import witten_bell
from timemachine.language_model import RNNLMScratch
from timemachine.texts import CATALOGUE

TARGETS = range(15_032, 135_032)  # 10,000 + 5,000 windows of 32 characters, and 120,000 characters after them
ORDERS = range(1, 8)  # of Witten-Bell n-grams, of which the best on validation is taken


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return what the model was trained on, and of each book the scores of its stream and of the n-grams.

    A score is perplexity with its standard error, bits a character and number of characters. Nothing is downloaded.
    """
    model.cpu()
    own = data.corpus
    train = own.characters[: data.splits["train"].targets.stop]
    val = data.splits["val"].targets
    order = min(ORDERS, key=lambda n: np.mean(witten_bell(train, own.characters, val, n))) if val else 4
    folders = [str(own.paths[0].parent.resolve()), *Data().search_dirs]
    others = [book.rotated(data.start) for book in at_hand(folders) if book.sha256 != own.sha256]
    pieces = [(own, data.splits["test"].targets[: len(TARGETS)])]
    pieces += [(book, TARGETS[: max(0, len(book.characters) - TARGETS.start)]) for book in others]
    books = {}
    for book, targets in pieces:
        if targets:
            ngram_N = torch.from_numpy(witten_bell(train, book.characters, targets, order))
            scores = {
                "stream": stream_score(model, data.vocab.encode(book.characters), targets),
                "witten_bell": score(ngram_N),
            }
            books[book.name] = _named(book) | {name: asdict(found) for name, found in scores.items()}
    about = {"trained_on": own.name, "train_characters": len(train), "witten_bell_order": order}
    return _named(own) | about | {"books": books}


def _named(book: Corpus) -> dict[str, str]:
    author = CATALOGUE[book.name].author if book.name in CATALOGUE else ""
    return {"title": book.title, "author": author}

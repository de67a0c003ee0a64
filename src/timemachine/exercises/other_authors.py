"""Exercise 7: How well does a model predict books by other authors?"""

from collections.abc import Iterable
from itertools import product
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame

from timemachine.study.books import SCORED, book_author, book_title, scores_of_books
from timemachine.study.comparison import Estimate, estimate, holm
from timemachine.study.figures import panels

Pair = tuple[str, str, str]  # book read, training book of the model expected to lead, training book of the other model

SETTINGS = ("data.corpus",)
SETUP = f"""
The recipe's run on excerpts of several books. {SCORED} No model was trained or validated on the text that it reads.
n-gram: a Kneser-Ney model of the same characters, with the order that is best on validation. Mean lead: bits per byte
of the other models minus bits per byte of the own model. *Ahead* and *behind* count the other models that the own model
is significantly better or worse than, paired by excerpt, after Holm's correction for these comparisons and those of a
model of the author's other book with models of other authors."""
CAPTION = "Mean over excerpts. Rows: models, by training book; columns: books read."
FORMATS = dict.fromkeys(("own model, bits", "n-gram", "mean lead, bits"), ".3f")


def table(jobs: DataFrame) -> DataFrame:
    """Return how each book's own model compares with the models of all other books."""
    bits, ngrams = (_by_excerpt(jobs, score) for score in ("stream/bits_per_byte", "kneser_ney/bits_per_byte"))
    leads = leads_of(jobs)
    signs = significant_signs(leads)
    rows = {}
    for book in _books(jobs):
        pairs = [pair for pair in leads if pair[:2] == (book, book)]
        rows[book_title(book), book_author(book)] = {
            "own model, bits": estimate(bits.get((book, book), [])),
            "n-gram": estimate(ngrams.get((book, book), [])),
            "mean lead, bits": mean_lead(leads, pairs),
            "ahead": f"{sum(signs[pair] > 0 for pair in pairs)} of {len(pairs)}",
            "behind": f"{sum(signs[pair] < 0 for pair in pairs)} of {len(pairs)}",
        }
    return DataFrame(rows).T.rename_axis(["read", "author"])


def figure(jobs: DataFrame) -> Figure:
    """Draw each model's bits minus the bits of the book's own model: rows are training books, columns are books read.

    Differences that are not significant are in brackets.
    """
    books, leads = _books(jobs), leads_of(jobs)
    signs, means = significant_signs(leads), leads.mean()
    values = np.array([[means.get((book, book, other), 0.0) for book in books] for other in books])
    fig, ((axes,),) = panels(height=1.2 + 0.5 * len(books))
    # Dark: much worse than the own model, though light enough for black numbers.
    axes.imshow(values, cmap="Oranges", aspect="auto", vmax=1.5 * np.nanmax(values))
    for (y, x), value in np.ndenumerate(values):
        form = "{:+.2f}" if x == y or signs[books[x], books[x], books[y]] else "({:+.2f})"
        axes.text(x, y, form.format(value), ha="center", va="center", fontsize="small")
    axes.set_xticks(range(len(books)), [fill(book_title(book), 12) for book in books])
    axes.set_yticks(range(len(books)), [book_title(book) for book in books])
    axes.grid(visible=False)
    axes.set(xlabel="read", ylabel="trained on")
    title = "bits per byte above the book's own model (in brackets: not significant)"
    fig.suptitle(fill(title, 24 + 8 * len(books)))  # of the figure, since the panel of a few books is narrower
    return fig


def leads_of(jobs: DataFrame) -> DataFrame:
    """Return by excerpt the bits per byte of the other model minus those of the expected leader, for each `Pair`.

    The leader is the book's own model, or a model of the author's other book where the other author is another.
    """
    bits, books = _by_excerpt(jobs, "stream/bits_per_byte"), _books(jobs)
    authors = {book: book_author(book) for book in books}
    pairs = [(book, book, other) for book, other in product(books, repeat=2) if other != book]
    pairs += [
        (book, one, other)
        for book, one, other in product(books, repeat=3)
        if one != book and authors[one] == authors[book] != "" and authors[other] != authors[book]
    ]
    return DataFrame({pair: bits[pair[0], pair[2]] - bits[pair[:2]] for pair in pairs})


def mean_lead(leads: DataFrame, pairs: Iterable[Pair]) -> Estimate:
    """Return the mean lead over pairs, from the excerpts with all of their models."""
    return estimate(leads[[*pairs]].mean(axis=1, skipna=False))


def significant_signs(leads: DataFrame) -> dict[Pair, float]:
    """Return the sign of each pair's mean lead, 0 if it is not significant after Holm's correction for all pairs."""
    estimates = {pair: estimate(values) for pair, values in leads.items()}
    return {pair: claimed and np.sign(estimates[pair].mean) for pair, claimed in holm(estimates).items()}


def _by_excerpt(jobs: DataFrame, score: str) -> DataFrame:
    """Return the score of each book by each model (columns: book read, training book) for each excerpt (rows)."""
    return scores_of_books(jobs, score).droplevel("tokens").unstack("trained on")


def _books(jobs: DataFrame) -> list[str]:
    """Return the training books that were read."""
    bits = scores_of_books(jobs, "stream/bits_per_byte")
    return [book for book in bits.index.unique("trained on") if book in bits]

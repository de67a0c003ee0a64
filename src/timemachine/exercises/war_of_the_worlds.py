"""Exercise 6: How well does the model predict The War of the Worlds, by the same author, and other books?"""

import math
from textwrap import fill

from matplotlib.figure import Figure
from pandas import DataFrame, MultiIndex

from timemachine.study.books import SCORED, TRAINING, book_author, book_title, scores_of_books
from timemachine.study.comparison import Estimate, compare, estimate, holm, verdicts
from timemachine.study.drawing import points_by_place
from timemachine.study.figures import panels

BITS = "stream/bits_per_byte"

SETTINGS = ("data.corpus", "data.num_train")
SETUP = f"""
The recipe's run on excerpts of a novel. {SCORED} In its own novel each model reads only text that it was not trained or
validated on. Difference: bits per byte minus the bits of the training novel, paired by excerpt. *Easier* and *harder*
mark differences that are significant after Holm's correction over all rows, bold those of the last column."""
FORMATS = {"bits per byte": ".3f"}
CAPTION = "Bits per byte of each book minus the bits of the training novel. Points: training excerpts; bars: means."


def table(jobs: DataFrame) -> DataFrame:
    """Return the scores of each book, and their differences from the training novel, for each training."""
    bits, perplexities = scores_of_books(jobs, BITS), scores_of_books(jobs, "stream/perplexity")
    rows = DataFrame(
        {
            "perplexity": perplexities.groupby(level=TRAINING).agg(estimate).stack(),
            "bits per byte": bits.groupby(level=TRAINING).agg(estimate).stack(),
        }
    )
    differences = _differences(bits).groupby(level=TRAINING).agg(estimate).stack()
    cells = verdicts({row: each for row, each in differences.items() if each.count}, "easier", "harder")
    rows["difference"], rows["verdict"] = zip(*(cells.get(row, ["", ""]) for row in rows.index), strict=True)
    of_author = from_authors_other(bits)
    claimed = holm(of_author)
    texts = {row: f"**{each:+.3f}**" if claimed[row] else f"{each:+.3f}" for row, each in of_author.items()}
    rows["minus the author's other"] = [texts.get(row, "") for row in rows.index]
    order = sorted(rows.index, key=lambda row: (row[:2], row[0] != row[2], [*bits].index(row[2])))
    titles = [
        (f"{book_title(own)}, {tokens:,.0f} tokens", book_title(book), book_author(book)) for own, tokens, book in order
    ]
    return rows.loc[order].set_axis(MultiIndex.from_tuples(titles, names=["trained on", "read", "author"]))


def figure(jobs: DataFrame) -> Figure:
    """Draw the bits of each book relative to the training novel, with one series per training."""
    differences = _differences(scores_of_books(jobs, BITS)).dropna(axis=1, how="all")
    trainings = differences.groupby(level=TRAINING)
    fig, ((axes,),) = panels()
    places = [fill(book_title(book), 12) for book in differences]
    points_by_place(
        axes,
        places,
        {f"{book_title(own)}, {tokens:,.0f} tokens": runs.to_numpy().T for (own, tokens), runs in trainings},
    )
    axes.axhline(0, color="black", linewidth=1)
    axes.set_ylabel("bits per byte minus those\nof the training novel")
    return fig


def from_authors_other(bits: DataFrame) -> dict[tuple[str, int, str], Estimate]:
    """Return the bits of each other author's book minus those of the second novel by the training novel's author.

    Keys: training novel, its training tokens, book.
    """
    differences = {}
    for (own, tokens), runs in bits.groupby(level=TRAINING):
        ours = [book for book in bits if book_author(book) == book_author(own)]
        for other in (book for book in ours if book != own):
            for book in bits.columns.difference(ours, sort=False):
                differences[own, tokens, book] = compare(runs[book], runs[other])
    return differences


def _differences(bits: DataFrame) -> DataFrame:
    """Return the bits of each other book minus the bits of the training novel; NaN if either was not read."""
    own = [row.get(index[0], math.nan) for index, row in bits.iterrows()]
    return DataFrame(
        {book: values.sub(own).mask(bits.index.get_level_values(0) == book) for book, values in bits.items()}
    )

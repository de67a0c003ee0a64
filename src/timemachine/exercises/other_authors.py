"""Exercise 7: How well does a model predict books by other authors?"""

from collections.abc import Mapping, Sequence
from itertools import product
from statistics import fmean
from textwrap import fill

import numpy as np

from timemachine.exercises import Findings, Picture
from timemachine.exercises.books import bits, bits_unit, books_read, by_training, range_read, scores_note
from timemachine.exercises.comparison import Estimate, estimate, holm
from timemachine.exercises.drawing import panels
from timemachine.exercises.groups import missing, percent, reads_tokens
from timemachine.run.jobs import Job

Bits = dict[tuple[str, str], dict[int, float]]  # (trained on, read) -> excerpt -> bits per character
Pair = tuple[str, str, str]  # book read, training book of the model expected to lead, training book of the other model


def findings(jobs: list[Job]) -> Findings:
    """Report one row per book, read by its own model and by all other models; then compare books of one author."""
    groups = by_training(jobs)
    books = books_read(groups)
    names = [name for name in dict.fromkeys(name for name, _ in groups) if name in books]
    titles, authors = ({name: books[name][place] for name in names} for place in (0, 1))
    own = {name: group for (name, _), group in groups.items()}
    network = {(name, book): bits(group, book) for name, group in own.items() for book in names}
    every = [(book, book, other) for book in names for other in names if other != book]
    kin = [
        (book, one, other)
        for book, one, other in product(names, repeat=3)
        if one != book and authors[one] == authors[book] != "" and authors[other] != authors[book]
    ]
    leads = {pair: _lead(network, [pair]) for pair in every + kin}
    claimed = holm(leads)
    ahead, behind = ({pair for pair in leads if claimed[pair] and sign * leads[pair].mean > 0} for sign in (1, -1))

    def count(apart: set[Pair], pairs: Sequence[Pair]) -> str:
        return f"{len(apart.intersection(pairs))} of {len(pairs)}"

    lead_of_kin = _lead(network, kin)
    pairs_by_book = {name: [pair for pair in every if pair[0] == name] for name in names}
    of_others = [(book, one, other) for book, one, other in every if authors[other] != authors[book]]
    lead = _lead(network, of_others)
    over_books = estimate(_lead(network, [pair for pair in of_others if pair[0] == name]).mean for name in names)
    needed = {"excerpt with a model of every book": lead.count, "two books of one author": kin}
    worse = f"the perplexity is {percent(2**lead.mean)}"
    if reads_tokens(jobs):
        worse = f"by {lead.mean:.2f} bits per byte"
    scored = range_read(jobs)
    return Findings(
        setting="The book's run on excerpts of each book found, with equal numbers of characters and updates. "
        f"`data.start` rotates every book to start at that character. Each model reads characters {scored.start:,} to "
        f"{scored.stop - 1:,} of each rotated book; no model was trained or validated on them.",
        answer=missing(jobs, needed)
        or f"Worse than a model of that book: {worse} on average over {len(names)} books.",
        columns=["read", "author", "own model, bits", "n-gram", "mean lead, bits", "ahead", "behind"],
        rows=[
            [*books[book],
             *(f"{estimate(bits(own[book], book, model).values()):.3f}" for model in ("stream", "witten_bell")),
             f"{_lead(network, pairs):.3f}", count(ahead, pairs), count(behind, pairs)]
            for book, pairs in pairs_by_book.items()
        ],
        figures={"matrix": _matrix(network, titles, ahead | behind, bits_unit(jobs))} if every else {},
        notes=[
            f"{scores_note(jobs)} *Ahead* and *behind* count the other models that the own model is significantly "
            "better or worse than, on the same characters, paired by excerpt, after Holm's correction for all "
            f"{len(leads)} comparisons of this report. The mean lead is over all other models.",
            f"A model of another author's book needs {lead:.2f} {bits_unit(jobs)} more than the book's own, where ± is "
            f"over excerpts of these {len(names)} books; over the books it is {over_books.half_width:.2f}. The own "
            f"model is ahead in {count(ahead, every)} comparisons and behind in {count(behind, every)}. A model of the "
            f"same author's other book is ahead of a model of another author in {count(ahead, kin)} comparisons and "
            f"behind in {count(behind, kin)}, with a mean lead of {lead_of_kin:.2f} bits; the number of such pairs of "
            f"books ({len({frozenset(pair[:2]) for pair in kin})}) is too small for conclusions about authors.",
        ],
    )  # fmt: skip


def _lead(matrix: Bits, pairs: Sequence[Pair]) -> Estimate:
    """Return the mean lead in bits per character over pairs: the other model's bits minus the expected leader's.

    Uses only the excerpts with all of these models.
    """
    found = [(matrix[one, book], matrix[other, book]) for book, one, other in pairs]
    excerpts = set[int].intersection(*(set(one) & set(other) for one, other in found)) if found else []
    return estimate(fmean(other[excerpt] - one[excerpt] for one, other in found) for excerpt in excerpts)


def _matrix(network: Bits, titles: Mapping[str, str], apart: set[Pair], unit: str) -> Picture:
    """Draw each model's bits minus the bits of the book's own model: rows are training books, columns are books read.

    Differences of pairs that are not in `apart` are in brackets.
    """
    leads = {(other, book): _lead(network, [(book, book, other)]).mean for other in titles for book in titles}
    values, places = np.reshape([*leads.values()], (len(titles), -1)), range(len(titles))
    figure, ((axes,),) = panels(width=2.2 + len(titles), height=1.2 + 0.5 * len(titles))
    # Dark: much worse than the own model, though light enough for black numbers.
    axes.imshow(values, cmap="Oranges", aspect="auto", vmax=1.5 * np.nanmax(values))
    for (y, x), ((other, book), lead) in zip(np.ndindex(values.shape), leads.items(), strict=True):
        text = f"{lead:+.2f}" if book == other or (book, book, other) in apart else f"({lead:+.2f})"
        axes.text(x, y, text, ha="center", va="center", fontsize="small")
    axes.set_xticks(places, [fill(title, 12) for title in titles.values()])
    axes.set_yticks(places, [*titles.values()])
    axes.grid(visible=False)
    axes.set(xlabel="read", ylabel="trained on")
    title = f"{unit} above the book's own model (in brackets: not significant)"
    figure.suptitle(fill(title, 24 + 8 * len(titles)))  # of the figure, since the panel of a few books is narrower
    return figure, "Mean over excerpts. Rows: models, by training book; columns: books read."

"""Exercise 7: how well does a model predict books by other authors?"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from textwrap import fill

from matplotlib.figure import Figure

from timemachine.exercises import Findings
from timemachine.exercises.books import IN_BITS, bits, books_read, by_training
from timemachine.exercises.comparison import Estimate, estimate, holm
from timemachine.exercises.drawing import heat_map, panels
from timemachine.exercises.jobs import Job, markdown

Bits = dict[tuple[str, str], dict[tuple[int, int], float]]  # (trained on, read) -> excerpt -> bits a character
Pair = tuple[str, str, str]  # the book that is read, the one whose model should lead there, another's


def findings(jobs: list[Job]) -> Findings:
    """Report a row for each book, read by its own model and by those of the others; then the books of one author."""
    groups = by_training(jobs)
    books = books_read(job for group in groups.values() for job in group)
    names = [name for name in dict.fromkeys(name for name, _ in groups) if name in books]
    titles, authors = ({name: books[name][place] for name in names} for place in (0, 1))
    network, ngram = (
        {(name, book): bits(group, book, model) for (name, _), group in groups.items() for book in names}
        for model in ("stream", "witten_bell")
    )
    own = {book: [(book, book, other) for other in names if other != book] for book in names}
    related = {
        (book, one): [(book, one, other) for other in names if authors[other] != authors[book]]
        for book in names
        for one in names
        if one != book and authors[one] == authors[book] != ""
    }
    every, kin = ([pair for of in group.values() for pair in of] for group in (own, related))
    leads = {pair: _lead(network, [pair]) for pair in every + kin}
    claimed = holm(leads)
    ahead, behind = ({pair for pair in leads if claimed[pair] and sign * leads[pair].mean > 0} for sign in (1, -1))

    def cells(of: Sequence[Pair]) -> list[str]:
        counts = (f"{len(apart.intersection(of))} of {len(of)}" for apart in (ahead, behind))
        return [f"{_lead(network, of):.3f}", *counts]

    columns = ["mean lead, bits", "ahead", "behind"]
    lead, lead_of_kin = _lead(network, every), _lead(network, kin)
    more = estimate(n - ngram[cell][excerpt] for cell, found in network.items() for excerpt, n in found.items()).mean
    answer = (
        f"The model of another book needs {lead:.2f} bits a character more than a book's own model, over excerpts of "
        f"these {len(names)} books, a perplexity {100 * (2**lead.mean - 1):.0f} % higher; the own model is ahead in "
        f"{len(ahead.intersection(every))} of {len(every)} comparisons and behind in {len(behind.intersection(every))}."
    )
    of_authors = (
        f" The model of the author's other book is ahead of another author's in {len(ahead.intersection(kin))} of "
        f"{len(kin)} and behind in {len(behind.intersection(kin))}, by {lead_of_kin:.2f} bits on average, but "
        f"{len(related) // 2} pairs of books are too few to say anything of authors."
    )
    return Findings(
        number="7",
        question="How well does a model predict books by other authors?",
        setting="The book's run on excerpts of each book at hand, with the same number of characters and of updates: "
        "`data.start` is where the text begins, and what lies before follows at its end. Each model reads characters "
        "15,032 to 135,031 of every book, counted from the excerpt's start: no model was trained or validated on them.",
        answer=answer + of_authors * bool(kin) if lead.count else "No excerpt was read by the models of all books yet.",
        columns=["read", "author", "own model, bits", "n-gram", *columns],
        rows=[
            [*books[book], *(f"{estimate(matrix[book, book].values()):.3f}" for matrix in (network, ngram)), *cells(of)]
            for book, of in own.items()
        ],
        figures={"matrix": _matrix(network, titles, ahead | behind)} if every else {},
        captions={"matrix": "A row is a model, a column a book it reads: the mean over excerpts."} if every else {},
        notes=[
            f"{IN_BITS} *Ahead* and *behind*: of how many other models, on the same characters, paired by excerpt, "
            f"with Holm's correction for all {len(leads)} comparisons here; the rest cannot be told apart. The lead is "
            "the mean over them.",
            "The model of the author's other book against those of books by others:",
            markdown(
                ["read", "trained on", *columns],
                [[titles[book], titles[one], *cells(of)] for (book, one), of in related.items()],
            ),
            f"As a mean over all cells the networks need {abs(more):.3f} bits "
            f"{'more' if more > 0 else 'fewer'} than n-grams. A book's own n-gram leads "
            f"the others' by {_lead(ngram, every):.3f}.",
        ],
    )


def _lead(matrix: Bits, pairs: Sequence[Pair]) -> Estimate:
    """Return by how many bits a character the other model is above the one that should lead, mean over pairs.

    Of the excerpts that all of these models learnt from.
    """
    found = [(matrix[one, book], matrix[other, book]) for book, one, other in pairs]
    excerpts = set[tuple[int, int]].intersection(*(set(one) & set(other) for one, other in found)) if found else []
    return estimate(fmean(other[excerpt] - one[excerpt] for one, other in found) for excerpt in excerpts)


def _matrix(network: Bits, titles: Mapping[str, str], apart: set[Pair]) -> Figure:
    """Draw how many bits above the book's own model each model is: a row a training book, a column a book read.

    What is not in `apart` stands in brackets.
    """
    values = [[_lead(network, [(book, book, other)]).mean for book in titles] for other in titles]
    figure, grid = panels(width=2.2 + len(titles), height=1.2 + 0.5 * len(titles))
    places = [(place, place) for place in range(len(titles))]
    heat_map(grid[0, 0], values, [*titles.values()], [fill(title, 12) for title in titles.values()], "+.2f", places)
    for text in grid[0, 0].texts:
        book, other = ([*titles][int(place)] for place in text.get_position())
        if book != other and (book, book, other) not in apart:
            text.set_text(f"({text.get_text()})")
    title = "bits a character above the book's own model (in brackets: cannot be told apart)"
    grid[0, 0].set(xlabel="read", ylabel="trained on", title=title)
    return figure

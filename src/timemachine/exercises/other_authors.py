"""Exercise 7: how well does a model predict books by other authors?"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from textwrap import fill
from typing import Any

from matplotlib.figure import Figure

from timemachine.exercises import Findings
from timemachine.exercises.books import IN_BITS, bits, books_read, by_training
from timemachine.exercises.comparison import Estimate, estimate, holm
from timemachine.exercises.drawing import heat_map, panels
from timemachine.exercises.jobs import Job, markdown

Bits = dict[tuple[str, str], dict[tuple[int, int], float]]  # (trained on, read) -> excerpt -> bits a character
Pair = tuple[str, str, str]  # the book that is read, the one whose model should lead there, another's
Pairs = Mapping[Any, Sequence[Pair]]


def findings(jobs: list[Job]) -> Findings:
    """Report a row for each book, read by its own model and by those of the others; then the books of one author."""
    groups = by_training(jobs)
    ran = [job for group in groups.values() for job in group]
    books = books_read(ran)
    names = [name for name in dict.fromkeys(job.probes["books"]["trained_on"] for job in ran) if name in books]
    network, ngram = (
        {(name, book): bits(group, book, model) for (name, _), group in groups.items() for book in names}
        for model in ("stream", "witten_bell")
    )
    own = {book: [(book, book, other) for other in names if other != book] for book in names}
    related = {
        (book, one): [(book, one, other) for other in names if books[other][1] != books[one][1]]
        for book in names
        for one in names
        if one != book and books[one][1] == books[book][1] != ""
    }
    pairs = [pair for found in (*own.values(), *related.values()) for pair in found]
    leads = {pair: _lead(network, [pair]) for pair in pairs}
    claimed = holm(leads)
    ahead, behind = ({pair for pair in pairs if claimed[pair] and sign * leads[pair].mean > 0} for sign in (1, -1))

    def cells(of: Sequence[Pair]) -> list[str]:
        counts = len(ahead.intersection(of)), len(behind.intersection(of))
        return [f"{_lead(network, of):.3f}", *map(str, (*counts, len(of) - sum(counts)))]

    columns = ["mean lead, bits", "ahead", "behind", "cannot be told apart"]
    authors = [[books[book][0], books[one][0], *cells(of)] for (book, one), of in related.items()]
    every = [pair for of in own.values() for pair in of]
    gap = estimate(fmean(network[cell][e] - ngram[cell][e] for cell in network) for e in _excerpts(network, network))
    return Findings(
        number="7",
        question="How well does a model predict books by other authors?",
        setting="The book's run on excerpts of each book at hand, with the same number of characters and of updates: "
        "`data.start` is where the text begins, and what lies before follows at its end. Each model reads characters "
        "15,032 to 135,031 of every book, counted from the same start: no model was trained or validated on them.",
        answer=_answer(own, related, ahead, behind, _lead(network, every)) if every else "",
        columns=["read", "author", "own model, bits", "n-gram", *columns],
        rows=[
            [*books[book], *(f"{estimate(matrix[book, book].values()):.3f}" for matrix in (network, ngram)),
             *cells(of)]
            for book, of in own.items()
        ],
        figures={"matrix": _matrix(network, {name: books[name][0] for name in names})} if every else {},
        captions={"matrix": "How many bits a character more the model of another book needs; mean over excerpts."}
        if every else {},
        notes=[
            f"{IN_BITS} *Ahead* and *behind*: of how many other models, on the same characters, paired by excerpt, "
            f"with Holm's correction for all {len(pairs)} comparisons here. The lead is the mean over them.",
            *(["The model of the author's other book against those of books by others:",
               markdown(["read", "trained on", *columns], authors)] if authors else []),
            f"Witten-Bell n-grams, of the order that is best on validation, from the same characters: over all cells "
            f"the networks need {gap:+.3f} bits more than they, and the own n-gram leads the others by "
            f"{_lead(ngram, every):.3f}.",
        ],
    )  # fmt: skip


def _excerpts(matrix: Bits, cells: Iterable[tuple[str, str]]) -> list[tuple[int, int]]:
    """Return the excerpts of which all these cells have a number."""
    found = [set(matrix[cell]) for cell in cells]
    return sorted(set.intersection(*found)) if found else []


def _lead(matrix: Bits, pairs: Sequence[Pair]) -> Estimate:
    """Return by how many bits a character the other model is above the one that should lead, mean over pairs."""
    cells = [cell for book, one, other in pairs for cell in ((one, book), (other, book))]
    return estimate(
        fmean(matrix[other, book][excerpt] - matrix[one, book][excerpt] for book, one, other in pairs)
        for excerpt in _excerpts(matrix, cells)
    )


def _answer(own: Pairs, related: Pairs, ahead: set[Pair], behind: set[Pair], lead: Estimate) -> str:
    if not lead.count:
        return "There is no excerpt after which all models have read each other's books."
    best = sum(ahead.issuperset(of) for of in own.values())
    found = [pair for of in related.values() for pair in of]
    answer = (
        f"The model of another book needs {lead:.2f} bits a character more than a book's own model, which is ahead of "
        f"all others on {best} of {len(own)} books."
    )
    of_authors = (
        f" A model of the author's other book is ahead of a foreign one in {len(ahead.intersection(found))} of "
        f"{len(found)} comparisons, behind in {len(behind.intersection(found))}; {len(related) // 2} pairs of books "
        "say nothing of authors in general."
    )
    return answer + (of_authors if found else "")


def _matrix(network: Bits, titles: Mapping[str, str]) -> Figure:
    """Draw how many bits above the book's own model each model is: a row a training book, a column a book read."""
    values = [[_lead(network, [(book, book, other)]).mean for book in titles] for other in titles]
    figure, grid = panels(width=2.2 + len(titles), height=1.2 + 0.5 * len(titles))
    places = [(place, place) for place in range(len(titles))]
    heat_map(grid[0, 0], values, [*titles.values()], [fill(title, 12) for title in titles.values()], "+.2f", places)
    grid[0, 0].set(xlabel="read", ylabel="trained on", title="bits a character above the model of the book itself")
    return figure

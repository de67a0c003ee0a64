"""Exercise 6: How well does the model predict The War of the Worlds, by the same author, and other books?"""

import math
from textwrap import fill

from timemachine.exercises import Findings
from timemachine.exercises.books import IN_BITS, bits, books_read, by_training
from timemachine.exercises.comparison import UNDECIDED, Estimate, compare, estimate, holm
from timemachine.exercises.drawing import panels, points_by_seed
from timemachine.exercises.groups import missing
from timemachine.run.jobs import Job

ASKED, NGRAM = "war_of_the_worlds", "witten_bell"
EASIER, HARDER = "easier", "harder"

Training = tuple[str, int]  # the text, and how many characters of it
Compared = dict[str, tuple[Estimate, str]]  # a book, or the n-gram: its bits less the model's on ASKED, the verdict


def findings(jobs: list[Job]) -> Findings:
    """Report a row for each book, with its bits under each training, by excerpt."""
    groups = by_training(jobs)
    books = books_read(job for group in groups.values() for job in group)
    own = {name for name, _ in groups}
    places = sorted(books, key=lambda book: (book not in own, book != ASKED))  # its own novel comes first
    others = [book for book in places if book != ASKED]
    asked = {training: bits(group, ASKED) for training, group in groups.items()}
    differences = {
        (training, it): compare(bits(group, book, model), asked[training])
        for training, group in groups.items()
        for it, book, model in [*((book, book, "stream") for book in others), (NGRAM, ASKED, NGRAM)]
    }
    compared: dict[Training, Compared] = {training: {} for training in groups}
    for (training, it), claimed in holm(differences).items():
        found = differences[training, it]
        compared[training][it] = found, found.verdict(claimed, EASIER, HARDER)

    def cells(training: Training, group: list[Job], book: str) -> list[str]:
        found, verdict = compared[training].get(book, (estimate([]), UNDECIDED))
        more = f"{found:+.3f}" + (f", {verdict}" if verdict != UNDECIDED else "")
        return [f"{estimate(bits(group, book).values()):.3f}", more if book != ASKED else ""]

    answers = [
        _sentence(training, group, compared[training])
        for training, group in groups.items()
        if estimate(asked[training].values()).count and training[0] != ASKED
    ]
    figure, grid = panels(width=9)
    points = {
        f"trained on {training[1]:,} characters": [
            [found - asked[training].get(excerpt, math.nan) for excerpt, found in bits(group, book).items()]
            for book in others
        ]
        for training, group in groups.items()
    }
    points_by_seed(grid[0, 0], [fill(books[book][0], 12) for book in others], points)
    grid[0, 0].axhline(0, color="black", linewidth=1)
    grid[0, 0].set_ylabel("bits a character more than\nThe War of the Worlds")
    caption = "Its own novel first: a point an excerpt that a model learnt from, a stroke their mean."
    heads = ((f"after {size:,}, bits", "more than The War of the Worlds") for _, size in groups)
    return Findings(
        setting="The book's run on excerpts of The Time Machine, and the same network on 90 % of the novel, another "
        "90 % each time: `data.start` is where the text begins, and what lies before follows at its end. Each model "
        "reads characters 15,032 to 135,031 of every book, counted from the excerpt's start, and of its own novel "
        "what it was neither trained nor validated on.",
        answer=missing(jobs, {"run on another text that read The War of the Worlds": answers}) or " ".join(answers),
        columns=["read", "author", *(head for two in heads for head in two)],
        rows=[[*books[book], *(cell for item in groups.items() for cell in cells(*item, book))] for book in places],
        figures={"books": (figure, caption)} if groups else {},
        notes=[
            f"{IN_BITS} Differences are paired by excerpt. Easier or harder is what passes Holm's correction for all "
            "of them together; the others cannot be told apart.",
            *(f"The n-gram's bits on The War of the Worlds less the model's, after {size:,} characters: "
              f"{found[NGRAM][0]:+.3f}." for (_, size), found in compared.items()),
        ],
    )  # fmt: skip


def _sentence(training: Training, jobs: list[Job], compared: Compared) -> str:
    """Return what the model has on the book that was asked for, beside its own novel and the others."""
    asked, (own, _) = estimate(bits(jobs, ASKED).values()), compared.get(training[0], (estimate([]), UNDECIDED))
    others = [verdict for book, (_, verdict) in compared.items() if book not in (training[0], NGRAM)]
    return (
        f"After {training[1]:,} characters of {jobs[0].probes['books']['title']} the model has a perplexity of "
        f"{2**asked.mean:.2f} on The War of the Worlds ({asked:.2f} bits a character, a difference of {own:+.2f} bits "
        f"to the rest of its own novel). Harder than it: {others.count(HARDER)} of {len(others)} books by others; "
        f"easier: {others.count(EASIER)}."
    )

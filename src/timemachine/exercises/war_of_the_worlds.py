"""Exercise 6: How well does the model predict The War of the Worlds, by the same author, and other books?"""

import math
from textwrap import fill

from timemachine.exercises import Findings
from timemachine.exercises.books import bits, bits_unit, books_read, by_training, range_read, scores_note
from timemachine.exercises.comparison import UNDECIDED, compare, estimate, verdicts
from timemachine.exercises.drawing import panels, points_by_place
from timemachine.exercises.groups import missing, reads_tokens, run_description, span, unit
from timemachine.run.jobs import Job
from timemachine.texts import CATALOGUE

TITLE_OF_TOKENS = "Next edition, exercise 9: How well does a model of The War of the Worlds predict The Time Machine?"
NGRAM = "witten_bell"
EASIER, HARDER = "easier", "harder"
WHOLE = ", and the same network on 90% of the novel, with a different 90% for each excerpt"
ALIKE = 1.05  # largest ratio of the bits of two books that a model predicts about equally well

Training = tuple[str, int]  # training text, number of training characters
Compared = dict[tuple[Training, str], list[str]]  # with a book or NGRAM: its bits minus the asked book's, verdict


def book_asked_about(jobs: list[Job]) -> str:
    """Return the book that the exercise asks about: the next edition exchanges the two novels."""
    return "time_machine" if reads_tokens(jobs) else "war_of_the_worlds"


def findings(jobs: list[Job]) -> Findings:
    """Report one row per book, with its bits per character after each training."""
    groups, asked_book = by_training(jobs), book_asked_about(jobs)
    title = CATALOGUE[asked_book].title
    books = books_read(groups)
    own = {name for name, _ in groups}
    places = sorted(books, key=lambda book: (book not in own, book != asked_book))  # the training novel comes first
    others = [book for book in places if book != asked_book]
    asked = {training: bits(group, asked_book) for training, group in groups.items()}
    compared: Compared = verdicts({
        (training, name): compare(bits(group, book, model), asked[training])
        for training, group in groups.items()
        for name, book, model in [*((book, book, "stream") for book in others), (NGRAM, asked_book, NGRAM)]
        if bits(group, book, model)
    }, EASIER, HARDER)  # fmt: skip

    def cells(training: Training, group: list[Job], book: str) -> list[str]:
        difference, verdict = compared.get((training, book), ["" if book == asked_book else "–", UNDECIDED])
        found = f"{estimate(bits(group, book).values()):.3f}"
        return [found, difference if verdict == UNDECIDED else f"{difference}, {verdict}"]

    scored = range_read(jobs)
    own_read = [
        f"after {size:,}: {span(bits(group, name, name='num_targets').values(), ',.0f')} {unit(jobs)}s"
        for (name, size), group in groups.items()
    ]
    figure, grid = panels(width=9)
    points = {
        f"trained on {training[1]:,} {unit(jobs)}s": [
            [found - asked[training].get(excerpt, math.nan) for excerpt, found in bits(group, book).items()]
            for book in others
        ]
        for training, group in groups.items()
    }
    points_by_place(grid[0, 0], [fill(books[book][0], 12) for book in others], points)
    grid[0, 0].axhline(0, color="black", linewidth=1)
    grid[0, 0].set_ylabel(f"{bits_unit(jobs)} vs.\n{title}")
    caption = "The training novel comes first. Points: training excerpts; bars: means."
    novel = "The War of the Worlds" if reads_tokens(jobs) else "The Time Machine"
    per_byte = " per byte" if reads_tokens(jobs) else ""
    heads = ((f"after {size:,}, bits{per_byte}", f"vs. {title}") for _, size in groups)
    return Findings(
        setting=f"{run_description(jobs)} on excerpts of {novel}{'' if reads_tokens(jobs) else WHOLE}. `data.start` "
        f"rotates every book to start at that character. Each model reads characters {scored.start:,} to "
        f"{scored.stop - 1:,} of each rotated book. In its own novel it reads only text that it was not trained or "
        f"validated on ({'; '.join(own_read)}).",
        answer=_answer(jobs, groups, compared, asked_book),
        columns=["read", "author", *(head for two in heads for head in two)],
        rows=[[*books[book], *(cell for item in groups.items() for cell in cells(*item, book))] for book in places],
        figures={"books": (figure, caption)},
        notes=[
            f"{scores_note(jobs)} Differences are paired by excerpt. *Easier* and *harder* mark the differences that "
            "are significant after Holm's correction for all of them together.",
            *(f"The n-gram's bits on {title} minus the model's, after {size:,} characters: "
              f"{difference}." for ((_, size), name), (difference, _) in compared.items() if name == NGRAM),
        ],
    )  # fmt: skip


def _answer(jobs: list[Job], groups: dict[Training, list[Job]], compared: Compared, asked_book: str) -> str:
    """Return the answer for the first training that is not of the book asked about."""
    title = CATALOGUE[asked_book].title
    trainings = [training for training, group in groups.items()
                 if training[0] != asked_book and bits(group, asked_book)]  # fmt: skip
    if line := missing(jobs, {f"run on another text that read {title}": trainings}):
        return line
    training = trainings[0]
    asked, own = (estimate(bits(groups[training], book).values()).mean for book in (asked_book, training[0]))
    others = [verdict for (own_training, book), (_, verdict) in compared.items()
              if own_training == training and book not in (training[0], NGRAM)]  # fmt: skip
    _, verdict = compared.get((training, training[0]), ["", UNDECIDED])  # missing if it is the same book
    is_clear, is_alike = verdict == EASIER, asked < ALIKE * own
    like, doubt = "About as well as", ""
    if is_clear:
        like, doubt = "A little worse than" if is_alike else "Worse than", ", a significant difference"
    elif not is_alike:
        like, doubt = "On average worse than", ", not a significant difference"
    scores = f"perplexity {2**asked:.1f} against {2**own:.1f}"
    if reads_tokens(jobs):
        scores = f"{asked:.2f} bits per byte against {own:.2f}"
    return (
        f"{like} the rest of its training novel: {scores}{doubt}. Significantly harder to predict than "
        f"{title}: {others.count(HARDER)} of {len(others)} books by other authors; easier: "
        f"{others.count(EASIER) or 'none'}."
    )

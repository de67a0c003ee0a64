"""Next edition, exercise 6: Tokenizers of other sizes. Why would comparing perplexities mislead?"""

from typing import NamedTuple

from timemachine.exercises import Findings, Picture
from timemachine.exercises.comparison import (
    PAIRED,
    SCORES,
    Scores,
    best_rate,
    bits_per_byte,
    by_rate,
    compare,
    estimate,
    verdicts,
)
from timemachine.exercises.drawing import panels, plain_numbers, points_by_seed
from timemachine.exercises.groups import ended, grouped, missing, percent
from timemachine.run.jobs import Job

BOOK, ASKED = 1024, 2048  # vocabulary sizes of the book and of its exercise


class Tokenizer(NamedTuple):
    """The models of one vocabulary, at the learning rate that validation chose."""

    parameters: int
    bytes_per_token: float
    rate: float
    scores: Scores


def findings(jobs: list[Job]) -> Findings:
    """Report perplexity and bits per byte of each vocabulary, and the difference in bits to the book's vocabulary."""
    groups = grouped(ended(jobs), "data.vocab_size")
    found = {size: made for (size,), group in groups.items() if (made := _tokenizer(group))}
    others = [size for size in found if size != BOOK and BOOK in found]
    differences = {size: compare(found[size].scores.bits["test"], found[BOOK].scores.bits["test"]) for size in others}
    cells = verdicts(differences)
    return Findings(
        answer=_answer(jobs, found),
        setting="128 hidden units, an embedding of 64, AdamW, batches of 32 windows of 32 tokens. All models read the "
        "training text eight times, with fewer updates if tokens are longer. The text is read as one stream. Each "
        "excerpt is a rotation of the text with a different held-out part, a different seed and a tokenizer learnt "
        "from its training text. A row shows the learning rate with the lowest mean bits per byte on validation. This "
        "novel has only ASCII characters, so with 256 tokens every token is one character.",
        columns=["tokens", "bytes per token", "parameters", "rate", *SCORES, f"rest vs. {BOOK:,} tokens, bits", ""],
        rows=[
            [
                *(f"{size:,}", f"{it.bytes_per_token:.2f}", f"{it.parameters:,}", f"{it.rate:g}"),
                *it.scores.cells(),
                *cells.get(size, ["", ""]),
            ]
            for size, it in found.items()
        ],
        notes=[PAIRED],
        figures={"vocabulary": _figure(found)} if found else {},
    )


def _tokenizer(jobs: list[Job]) -> Tokenizer | None:
    """Return the scores of one vocabulary at its best rate, or None if no rate has a model of every excerpt."""
    if not (rates := by_rate(jobs, bits_per_byte)):
        return None
    rate = best_rate(rates)
    chosen = [job for job in jobs if job.settings["model.lr"] == rate]
    per_token = estimate(job.stream("test", "bits") / job.stream("test", "bits_per_byte") for job in chosen)
    return Tokenizer(chosen[0].parameters or 0, per_token.mean, rate, Scores.of(chosen))


def _answer(jobs: list[Job], found: dict[int, Tokenizer]) -> str:
    needed = {f"{size:,} tokens": found.get(size) for size in (BOOK, ASKED)}
    if line := missing(jobs, needed):
        return line
    (perplexity, bits), (higher, more) = (
        [estimate(values["test"].values()).mean for values in found[size].scores] for size in (BOOK, ASKED)
    )
    return (
        f"Perplexity is per token, and tokens differ in length: with {ASKED:,} tokens instead of {BOOK:,} it is "
        f"{percent(higher / perplexity)}, the bits per byte {percent(more / bits, digits=1)}."
    )


def _figure(found: dict[int, Tokenizer]) -> Picture:
    figure, (row,) = panels(1, 2, width=10)
    sizes = sorted(found)
    for number, (axes, unit) in enumerate(zip(row, ("perplexity", "bits per byte"), strict=True)):
        values = [list(found[size].scores[number]["test"].values()) for size in sizes]
        points_by_seed(axes, [f"{size:,}" for size in sizes], {"": values})
        axes.set(xlabel="tokens of the vocabulary", ylabel=unit)
    row[0].set(yscale="log")
    plain_numbers(row[0].yaxis)
    return figure, "Scores on the rest of the text. Points: excerpts; bars: means."

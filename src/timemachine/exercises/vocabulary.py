"""Next edition, exercise 6: Tokenizers of other sizes. Why would comparing perplexities mislead?"""

from typing import NamedTuple

from timemachine.exercises import Findings, Picture
from timemachine.exercises.comparison import (
    PAIRED,
    SCORES,
    Estimate,
    Scores,
    best_rate,
    bits_per_byte,
    by_rate,
    compare,
    estimate,
    verdicts,
)
from timemachine.exercises.drawing import panels, plain_numbers, points_by_seed
from timemachine.exercises.groups import ended, grouped, missing
from timemachine.run.jobs import Job

BOOK, ASKED = 1024, 2048  # tokens: the book's, and those of its exercise


class Tokenizer(NamedTuple):
    """The models of one vocabulary, at the learning rate that validation chose."""

    parameters: int
    bytes_per_token: float
    rate: float
    scores: Scores


def findings(jobs: list[Job]) -> Findings:
    """Report perplexity and bits per byte of each vocabulary, and the bits less those of the book's."""
    groups = grouped(ended(jobs), "data.vocab_size")
    found = {size: made for (size,), group in groups.items() if (made := _tokenizer(group))}
    others = [size for size in found if size != BOOK and BOOK in found]
    differences = {size: compare(found[size].scores.bits["test"], found[BOOK].scores.bits["test"]) for size in others}
    cells = verdicts(differences)
    return Findings(
        answer=_answer(jobs, found, differences),
        setting="The text is read as one stream. Of each excerpt, that is each rotation of the text, another part is "
        "held out, and its model has another seed and a tokenizer learnt from its training text. The rate of a "
        "row is the one with the lowest mean of bits per byte on validation. In this novel, which has no character "
        "beyond ASCII, 256 tokens are the characters. All models read as much text; longer tokens need fewer "
        "updates for it.",
        columns=["tokens", "bytes per token", "parameters", "rate", *SCORES, f"rest less {BOOK:,} tokens', bits", ""],
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
    """Return what the jobs of one vocabulary show, None if no rate has a model of every excerpt."""
    if not (rates := by_rate(jobs, bits_per_byte)):
        return None
    rate = best_rate(rates)
    chosen = [job for job in jobs if job.settings["model.lr"] == rate]
    per_token = estimate(job.stream("test", "bits") / job.stream("test", "bits_per_byte") for job in chosen)
    return Tokenizer(chosen[0].parameters or 0, per_token.mean, rate, Scores.of(chosen))


def _answer(jobs: list[Job], found: dict[int, Tokenizer], differences: dict[int, Estimate]) -> str:
    needed = {f"{size:,} tokens": found.get(size) for size in (BOOK, ASKED)}
    if line := missing(jobs, needed):
        return line
    (perplexity, bits), (higher, more) = (
        [estimate(values["test"].values()) for values in found[size].scores] for size in (BOOK, ASKED)
    )
    return (
        f"With {ASKED:,} tokens the perplexity of the rest of the text is {higher:.0f} and with {BOOK:,} tokens "
        f"{perplexity:.0f}, since a token is longer: {found[ASKED].bytes_per_token:.2f} bytes and "
        f"{found[BOOK].bytes_per_token:.2f}. Per byte of text they take {more:.3f} and {bits:.3f} bits, a "
        f"difference of {differences[ASKED]:+.3f}."
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
    return figure, "The rest of the text: a point an excerpt, a stroke for the mean."

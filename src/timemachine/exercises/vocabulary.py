"""Next edition, exercise 6: Tokenizers of other sizes. Why would comparing perplexities mislead?"""

from timemachine.exercises import Findings, Picture
from timemachine.exercises.comparison import (
    PAIRED,
    UNDECIDED,
    Scores,
    against,
    at_best_rate,
    bits_per_byte,
    estimate,
    verdicts,
)
from timemachine.exercises.drawing import panels, plain_numbers, points_by_place
from timemachine.exercises.groups import grouped, missing, percent
from timemachine.run.jobs import Job

BOOK, ASKED = 1024, 2048  # vocabulary sizes of the book and of its exercise
VERSUS = f"rest vs. {BOOK:,} tokens, bits"


def findings(jobs: list[Job]) -> Findings:
    """Report perplexity and bits per byte of each vocabulary, and the difference in bits from the book's vocabulary."""
    chosen = {size: at_best_rate(group, bits_per_byte) for (size,), group in grouped(jobs, "data.vocab_size").items()}
    found = {size: Scores.of(group) for size, group in chosen.items() if group}
    verdict_of = verdicts(against(BOOK, {size: scores.bits["test"] for size, scores in found.items()}))
    return Findings(
        answer=_answer(jobs, found, verdict_of.get(ASKED, ["", ""])[1]),
        setting="128 hidden units, an embedding of 64, AdamW, batches of 32 windows of 32 tokens. All models read the "
        "training text eight times, with fewer updates if tokens are longer. The text is read as one stream. Each "
        "excerpt is a rotation of the text with a different held-out part, a different seed and a tokenizer learned "
        "from its training text. A row shows the learning rate with the lowest mean bits per byte on validation. This "
        "novel has only ASCII characters, so with 256 tokens every token is one character.",
        columns=["tokens", "bytes per token", "parameters", "rate", *Scores.columns(), VERSUS, ""],
        rows=[
            [
                *(f"{size:,}", f"{_bytes_per_token(chosen[size]):.2f}", f"{chosen[size][0].parameters:,}"),
                *(f"{chosen[size][0].settings['model.lr']:g}", *scores.cells(), *verdict_of.get(size, ["", ""])),
            ]
            for size, scores in found.items()
        ],
        notes=[PAIRED],
        figures={"vocabulary": _figure(found)},
    )


def _bytes_per_token(jobs: list[Job]) -> float:
    return estimate(job.stream("test", "bits") / job.stream("test", "bits_per_byte") for job in jobs).mean


def _answer(jobs: list[Job], found: dict[int, Scores], verdict: str) -> str:
    needed = {f"{size:,} tokens": found.get(size) for size in (BOOK, ASKED)}
    if line := missing(jobs, needed):
        return line
    (perplexity, bits), (higher, more) = (
        [estimate(values["test"].values()).mean for values in found[size]] for size in (BOOK, ASKED)
    )
    return (
        f"Perplexity is per token, and tokens differ in length: with {ASKED:,} tokens instead of {BOOK:,} it is "
        f"{percent(higher / perplexity)}, the bits per byte {percent(more / bits, digits=1)}"
        f"{' (not significant)' if verdict == UNDECIDED else ''}."
    )


def _figure(found: dict[int, Scores]) -> Picture:
    figure, (row,) = panels(1, 2, width=10)
    sizes = sorted(found)
    for number, (axes, unit) in enumerate(zip(row, ("perplexity", "bits per byte"), strict=True)):
        values = [list(found[size][number]["test"].values()) for size in sizes]
        points_by_place(axes, [f"{size:,}" for size in sizes], {"": values})
        axes.set(xlabel="tokens of the vocabulary", ylabel=unit)
    row[0].set(yscale="log")
    plain_numbers(row[0].yaxis)
    return figure, "Scores on the rest of the text. Points: excerpts; bars: means."

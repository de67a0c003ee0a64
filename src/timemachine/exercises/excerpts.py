"""Exercise 11: Would your answers survive another excerpt? (not in the book)"""

import math
from statistics import fmean, stdev

from timemachine.exercises import Findings, Picture
from timemachine.exercises.comparison import Estimate, by_seed, compare, estimate, nats, perplexity
from timemachine.exercises.drawing import panels, points_by_place
from timemachine.exercises.groups import completed, grouped, missing, span
from timemachine.run.jobs import Job

WINDOW, START = "data.num_steps", "data.start"
BOOK, OTHER = 32, 8  # time steps
OPENING = 0  # where the book's own excerpt starts

Nats = dict[int, dict[int, float]]  # start of the excerpt -> seed -> nats per character on the rest of the text


def findings(jobs: list[Job]) -> Findings:
    """Report how much seeds and excerpts move the perplexity, and one difference on each excerpt and on all."""
    windows = {window: _nats(group) for (window,), group in grouped(completed(jobs), WINDOW).items()}
    book, other = (windows.get(window, {}) for window in (BOOK, OTHER))
    gains = {start: compare(other[start], book[start]) for start in book if start in other}
    rows = [
        [f"{start:,}", str(len(book[start])), f"{perplexity(book[start])}", f"{perplexity(other[start])}",
         f"{gain:+.3f}"]
        for start, gain in gains.items()
    ]  # fmt: skip
    if gains:
        means = [{start: fmean(of_seeds.values()) for start, of_seeds in found.items()} for found in (other, book)]
        both = [f"{estimate(perplexity(of_seeds).mean for of_seeds in found.values())}" for found in (book, other)]
        rows.append(["all", "", *both, f"{compare(*means):+.3f}"])
    within, between = _spreads(book)
    _, of_later = _spreads({start: of_seeds for start, of_seeds in book.items() if start != OPENING})
    without = "" if math.isnan(of_later) else f" ({of_later:.2f} without the novel's opening)"
    return Findings(
        answer=_answer(jobs, book, gains),
        setting="The book's model, trained on 10,000 windows that start at different places of the text, with several "
        f"seeds each; the same with {OTHER} instead of {BOOK} time steps, and as many characters per update. "
        "Perplexity is of the rest of the text, read as one stream.",
        columns=["excerpt starts at", "seeds", f"{BOOK} time steps", f"{OTHER} time steps", "difference, nats"],
        rows=rows,
        notes=[
            "In the rows of an excerpt ± is the half-width of the 95% interval over its seeds. In the last row it is "
            "over excerpts, after averaging over seeds. Differences are paired.",
            f"Standard deviation of the perplexity with {BOOK} time steps: {within:.2f} between seeds on the same "
            f"excerpt, {between:.2f} between excerpts{without}.",
        ],
        figures={"excerpts": _figure(book, other)},
    )  # fmt: skip


def _nats(jobs: list[Job]) -> Nats:
    return {start: by_seed(group, lambda job: nats(job, "test"))
            for (start,), group in sorted(grouped(jobs, START).items())}  # fmt: skip


def _spreads(found: Nats) -> tuple[float, float]:
    """Return the standard deviations of the perplexity between seeds of an excerpt, and between excerpts."""
    perplexities = [[*map(math.exp, of_seeds.values())] for of_seeds in found.values()]
    if len(perplexities) < 2 or min(map(len, perplexities)) < 2:
        return math.nan, math.nan
    within = fmean(stdev(values) ** 2 for values in perplexities)
    # The variance of the excerpts' means also contains the variance of the seeds, divided by their number.
    between = stdev(map(fmean, perplexities)) ** 2 - within / fmean(map(len, perplexities))
    return math.sqrt(within), math.sqrt(max(between, 0.0))


def _answer(jobs: list[Job], book: Nats, gains: dict[int, Estimate]) -> str:
    within, _ = _spreads(book)
    needed = {"several seeds on several excerpts": not math.isnan(within), f"runs with {WINDOW}={OTHER}": gains}
    if line := missing(jobs, needed):
        return line
    means = (perplexity(of_seeds).mean for of_seeds in book.values())
    better = sum(gain.mean < 0 for gain in gains.values())
    survived, number = "would", f"all {better}"
    if better < len(gains):
        survived, number = "would on some", f"{better} of {len(gains)}"
    return (
        f"Absolute perplexities would not: the mean of an excerpt is {span(means, '.2f')}, the standard deviation over "
        f"its seeds {within:.2f}. The comparison of {OTHER} with {BOOK} time steps {survived}: {OTHER} are better on "
        f"{number} excerpts."
    )


def _figure(book: Nats, other: Nats) -> Picture:
    figure, ((axes,),) = panels(width=9)
    series = {f"{window} time steps": [[*map(math.exp, found.get(start, {}).values())] for start in book]
              for window, found in ((BOOK, book), (OTHER, other))}  # fmt: skip
    points_by_place(axes, [f"{start:,}" for start in book], series)
    axes.set(xlabel="the training text starts at this character", ylabel="perplexity of the rest of the text")
    return figure, "Perplexity on each excerpt. Points: seeds; bars: means."

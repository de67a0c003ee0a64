"""Next edition, exercise 7: Tie the output weights to the embedding. What does it save, and what does it do?"""

import math
from typing import NamedTuple

from timemachine.exercises import Findings, Picture
from timemachine.exercises.comparison import PAIRED, Scores, against, estimate, verdicts
from timemachine.exercises.drawing import lines, panels
from timemachine.exercises.groups import ended, epochs_of_tokens, grouped, missing, percent
from timemachine.run.jobs import Job


class Way(NamedTuple):
    """Whether the output weights are tied, the initial standard deviation of the embedding, and the learning rate."""

    is_tied: bool
    sigma: float
    rate: float

    def __str__(self) -> str:
        return f"{f'tied, σ = {self.sigma:g}' if self.is_tied else 'untied'}, rate {self.rate:g}"


UNTIED = Way(False, 1.0, 4.0)  # the book's model


def findings(jobs: list[Job]) -> Findings:
    """Report tied and untied models, and the difference of their bits per byte."""
    settings = ("model.tie_weights", "model.embedding_sigma", "model.lr")
    groups = {Way(*key): group for key, group in grouped(ended(jobs), *settings).items()}
    scores = {way: Scores.of(group) for way, group in groups.items()}
    cells = verdicts(against(UNTIED, {way: it.bits["test"] for way, it in scores.items()}))
    return Findings(
        answer=_answer(jobs, groups, scores),
        setting="σ is the initial standard deviation of the embedding's entries; 0.0884 is 1/√128. A tied model "
        "divides its input embeddings by σ, so that they have variance 1 as in the untied model. Each excerpt is a "
        "rotation of the text with a different held-out part and a different seed; the tokens are learned from the "
        "whole text. The text is read as one stream. A run whose last validation perplexity is above the number of "
        "tokens counts as diverged.",
        columns=["output weights", "rate", "parameters", "diverged", *Scores.columns(), "rest vs. untied, bits", ""],
        rows=[
            [
                *(*str(way).split(", rate "), f"{group[0].parameters:,}"),
                str(sum(job.status == "diverged" for job in group)),
                *(*scores[way].cells(), *cells.get(way, ["", ""])),
            ]
            for way, group in groups.items()
        ],
        notes=[PAIRED],
        figures={"tying": _figure(groups)},
    )


def _answer(jobs: list[Job], groups: dict[Way, list[Job]], scores: dict[Way, Scores]) -> str:
    """Return the answer for the tied model with the fewest bits per byte on validation."""
    tied_ways = [way for way in groups if way.is_tied]
    if line := missing(jobs, {"untied model at the book's rate": UNTIED in groups, "tied models": tied_ways}):
        return line
    best = min(tied_ways, key=lambda way: estimate(scores[way].bits["val"].values()).mean)
    every, tied = (groups[way][0].parameters or 0 for way in (UNTIED, best))
    of_best, of_untied = (estimate(scores[way].perplexity["test"].values()).mean for way in (best, UNTIED))
    scaled = ", whose embedding also has another scale" if best.sigma != UNTIED.sigma else ""
    return (
        f"It saves {100 * (every - tied) / every:.0f}% of the parameters. After {epochs_of_tokens(groups[best])} the "
        f"perplexity of the rest of the text is {percent(of_best / of_untied)} with the best tied model{scaled}."
    )


def _figure(groups: dict[Way, list[Job]]) -> Picture:
    figure, ((axes,),) = panels(width=8)
    axes.set(xlabel="epoch", ylabel="validation perplexity", yscale="log")
    series: dict[str, dict[float, float]] = {}
    for way, group in groups.items():
        found: dict[float, list[float]] = {}
        for job in group:
            for row in job.epochs():
                if math.isfinite(row.get("val/perplexity", math.nan)):
                    found.setdefault(row["epoch"], []).append(math.log(row["val/perplexity"]))
        series[str(way)] = {epoch: math.exp(estimate(values).mean) for epoch, values in found.items()}
    axes.xaxis.get_major_locator().set_params(integer=True)
    lines(axes, series, ",.0f")
    return figure, (
        "Validation perplexity of windows, not of a stream as in the table: geometric means over the excerpts."
    )

"""Next edition, exercise 7: Tie the output weights to the embedding. What does it save, and what does it do?"""

import math
from typing import NamedTuple

from timemachine.exercises import Findings, Picture
from timemachine.exercises.comparison import PAIRED, Scores, against, estimate, verdicts
from timemachine.exercises.drawing import lines, panels
from timemachine.exercises.groups import ended, epochs_of_tokens, grouped, missing, percent
from timemachine.run.jobs import Job


class Variant(NamedTuple):
    """A model: tied or not, the initial standard deviation of the embedding, and the learning rates."""

    is_tied: bool
    sigma: float
    rate: float
    input_factor: float = 1.0  # the learning rate of the input weights, as a multiple of `rate`

    def __str__(self) -> str:
        inputs = f", inputs {self.input_factor:g} times as fast" if self.input_factor != 1 else ""
        return f"{f'tied, σ = {self.sigma:g}' if self.is_tied else 'untied'}{inputs}, rate {self.rate:g}"


UNTIED = Variant(False, 1.0, 4.0)  # the book's model


def findings(jobs: list[Job]) -> Findings:
    """Report tied and untied models, and the difference of their bits per byte."""
    settings = ("model.tie_weights", "model.embedding_sigma", "model.lr", "model.input_lr_factor")
    groups = {Variant(*key): group for key, group in grouped(ended(jobs), *settings).items()}
    scores = {variant: Scores.of(group) for variant, group in groups.items()}
    cells = verdicts(against(UNTIED, {variant: it.bits["test"] for variant, it in scores.items()}))
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
                *(*str(variant).split(", rate "), f"{group[0].parameters:,}"),
                str(sum(job.status == "diverged" for job in group)),
                *(*scores[variant].cells(), *cells.get(variant, ["", ""])),
            ]
            for variant, group in groups.items()
        ],
        notes=[PAIRED],
        figures={"tying": _figure(groups)},
    )


def _answer(jobs: list[Job], groups: dict[Variant, list[Job]], scores: dict[Variant, Scores]) -> str:
    """Return the answer for the tied model with the fewest bits per byte on validation."""
    tied_models = [it for it in groups if it.is_tied]
    faster = next((it for it in groups if not it.is_tied and it.input_factor > 1), UNTIED)
    needed = {"untied model at the book's rate": UNTIED in groups, "tied models": tied_models}
    needed["untied model with faster inputs"] = faster != UNTIED
    if line := missing(jobs, needed):
        return line
    best = min(tied_models, key=lambda it: estimate(scores[it].bits["val"].values()).mean)
    every, tied = (groups[it][0].parameters or 0 for it in (UNTIED, best))
    of_best, of_faster, of_untied = (
        estimate(scores[it].perplexity["test"].values()).mean for it in (best, faster, UNTIED)
    )
    return (
        f"It saves {100 * (every - tied) / every:.0f}% of the parameters. After {epochs_of_tokens(groups[best])} the "
        f"perplexity of the rest of the text is {percent(of_best / of_untied)}. Untied, with inputs that learn "
        f"{faster.input_factor:g} times as fast, it is {percent(of_faster / of_untied)}."
    )


def _figure(groups: dict[Variant, list[Job]]) -> Picture:
    figure, ((axes,),) = panels(width=8)
    axes.set(xlabel="epoch", ylabel="validation perplexity", yscale="log")
    series: dict[str, dict[float, float]] = {}
    for variant, group in groups.items():
        found: dict[float, list[float]] = {}
        for job in group:
            for row in job.epochs():
                if math.isfinite(row.get("val/perplexity", math.nan)):
                    found.setdefault(row["epoch"], []).append(math.log(row["val/perplexity"]))
        series[str(variant)] = {epoch: math.exp(estimate(values).mean) for epoch, values in found.items()}
    axes.xaxis.get_major_locator().set_params(integer=True)
    lines(axes, series, ",.0f")
    return figure, (
        "Validation perplexity of windows, not of a stream as in the table: geometric means over the excerpts."
    )

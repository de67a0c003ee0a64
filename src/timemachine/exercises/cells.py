"""Chapter 10: Do gates help, at equal numbers of parameters and updates?"""

import math
from typing import NamedTuple

from timemachine.exercises import Findings, Picture
from timemachine.exercises.comparison import PAIRED, Estimate, Values, best_rate, by_rate, compare, perplexity, verdicts
from timemachine.exercises.drawing import panels, points_by_seed
from timemachine.exercises.groups import grouped, missing, percent, span
from timemachine.exercises.stream import PARTS
from timemachine.run.jobs import Job

NAMES = {"rnn": "RNN", "gru": "GRU", "lstm": "LSTM", "deep_rnn": "deep RNN"}
PLAIN = "rnn"  # the baseline of all comparisons
EQUAL = 1.25  # largest ratio of parameters between models of one size


class Model(NamedTuple):
    """A cell and its size. `size`: index among the sweep's numbers of parameters, in ascending order."""

    size: int
    cell: str
    hiddens: int
    parameters: int


def findings(jobs: list[Job]) -> Findings:
    """Report each cell at its best learning rate on validation, compared with the RNN of the same size."""
    measured = {model: by_rate(group, _nats) for model, group in _models(jobs).items()}
    chosen = {model: best_rate(rates) for model, rates in measured.items() if rates}
    plain = {model.size: measured[model][rate] for model, rate in chosen.items() if model.cell == PLAIN}
    found = {model: measured[model][rate] for model, rate in chosen.items()}
    differences = {
        model: compare(nats["test"], plain[model.size]["test"])
        for model, nats in found.items()
        if model.cell != PLAIN and model.size in plain
    }
    cells = verdicts(differences)
    rates = {rate for of_model in measured.values() for rate in of_model}
    edges = [f"{NAMES.get(it.cell, it.cell)}, {it.hiddens} units" for it, rate in chosen.items()
             if rate in (min(rates), max(rates))]  # fmt: skip
    return Findings(
        answer=_answer(jobs, found, differences),
        setting=f"{span((job.number('step') for job in jobs), ',.0f')} updates of AdamW, with batches of 32 windows "
        "of 32 characters from the first 90 % of the text. Perplexities are of the text read as one stream. Each "
        "excerpt is a rotation of the text with a different held-out part and a different seed. A row shows the "
        "learning rate with the lowest mean validation perplexity over the excerpts; the rest of the text was not used "
        "for this choice.",
        columns=["parameters", "cell", "units", "rate", "excerpts", *PARTS.values(), "rest vs. RNN, nats", ""],
        rows=[
            [
                *(f"{model.parameters:,}", NAMES.get(model.cell, model.cell), str(model.hiddens), f"{chosen[model]:g}"),
                *(str(len(nats["val"])), *(f"{perplexity(nats[part])}" for part in PARTS)),
                *cells.get(model, ["", ""]),
            ]
            for model, nats in found.items()
        ],
        notes=[
            PAIRED,
            f"Cells whose chosen rate is the lowest or highest of the sweep: {'; '.join(edges) or 'none'}.",
        ],
        figures={"cells": _figure(found)} if found else {},
    )


def _models(jobs: list[Job]) -> dict[Model, list[Job]]:
    """Return the jobs of each cell and size. Models of one size differ in parameters by a factor of at most `EQUAL`."""
    groups = grouped((job for job in jobs if job.parameters), lambda job: job.parameters, "model.cell", "model.hiddens")
    models: dict[Model, list[Job]] = {}
    size, smallest = -1, 0.0
    for (parameters, cell, hiddens), group in sorted(groups.items(), key=lambda item: item[0]):
        if parameters > EQUAL * smallest:
            size, smallest = size + 1, parameters
        models[Model(size, cell, hiddens, parameters)] = group
    order = [*dict.fromkeys(job.settings.get("model.cell") for job in jobs)]
    return dict(sorted(models.items(), key=lambda item: (item[0].size, order.index(item[0].cell))))


def _nats(job: Job, part: str) -> float:
    return math.log(job.stream(part))


def _answer(jobs: list[Job], found: dict[Model, Values], differences: dict[Model, Estimate]) -> str:
    """Return the answer for the middle size."""
    middle = (max((model.size for model in found), default=0) + 1) // 2
    of_size = {model.cell: model for model in found if model.size == middle}
    needed = {f"{name} at the middle size": of_size.get(cell) for cell, name in NAMES.items()}
    if line := missing(jobs, needed):
        return line
    gru, lstm = (percent(math.exp(differences[of_size[cell]].mean)) for cell in ("gru", "lstm"))
    return (
        f"With equally many parameters, about {of_size[PLAIN].parameters / 1000:.0f},000, the perplexity of the rest "
        f"of the text is {gru} with the GRU than with the RNN, and {lstm} with the LSTM."
    )


def _figure(found: dict[Model, Values]) -> Picture:
    figure, ((axes,),) = panels()
    sizes = sorted({model.size for model in found})
    parameters = [span((model.parameters for model in found if model.size == size), ",") for size in sizes]
    perplexities = {
        (model.size, model.cell): [math.exp(nats) for nats in found[model]["test"].values()] for model in found
    }
    series = {NAMES.get(cell, cell): [perplexities.get((size, cell), []) for size in sizes]
              for cell in dict.fromkeys(model.cell for model in found)}  # fmt: skip
    points_by_seed(axes, parameters, series)
    axes.set(xlabel="parameters", ylabel="perplexity of the rest of the text")
    return figure, "Each cell at the rate chosen on validation. Points: excerpts; bars: means."

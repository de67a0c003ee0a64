"""Chapter 10: Do gates help, at equal numbers of parameters and updates?"""

import math
from typing import NamedTuple

from timemachine.exercises import Findings, Picture
from timemachine.exercises.comparison import PAIRED, Values, at_best_rate, by_part, compare, nats, perplexity, verdicts
from timemachine.exercises.drawing import panels, points_by_place
from timemachine.exercises.groups import grouped, missing, percent, span
from timemachine.exercises.stream import PARTS
from timemachine.run.console import CELL_NAMES
from timemachine.run.jobs import Job

NAMES = {cell: name.partition(" ")[2] for cell, name in CELL_NAMES.items()}  # without the article
PLAIN = "RNN"  # the baseline of all comparisons
EQUAL = 1.25  # largest ratio of parameters between models of one size


class Model(NamedTuple):
    """A cell and its size, the smallest number of parameters of the models it is compared with."""

    size: int
    cell: str  # as in reports
    hiddens: int
    parameters: int


def findings(jobs: list[Job]) -> Findings:
    """Report each cell at its best learning rate on validation, compared with the RNN of the same size."""
    chosen = {model: at_best_rate(group, nats) for model, group in _models(jobs).items()}
    found = {model: by_part(group, nats) for model, group in chosen.items() if group}
    plain = {model.size: of_parts["test"] for model, of_parts in found.items() if model.cell == PLAIN}
    verdict_of = verdicts({
        model: compare(of_parts["test"], plain[model.size])
        for model, of_parts in found.items()
        if model.cell != PLAIN and model.size in plain
    })  # fmt: skip
    rates = {model: chosen[model][0].settings["model.lr"] for model in found}
    tried = [rate for (rate,) in grouped(jobs, "model.lr")]
    edges = [f"{model.cell}, {model.hiddens} units" for model, rate in rates.items()
             if rate in (min(tried), max(tried))]  # fmt: skip
    return Findings(
        answer=_answer(jobs, found),
        setting=f"{span((job.number('step') for job in jobs), ',.0f')} updates of AdamW. Perplexities are of the text "
        "read as one stream. Each excerpt is a rotation of the text with a different held-out part and a different "
        "seed. A row shows the learning rate with the lowest mean validation perplexity over the excerpts; the rest of "
        "the text was not used for this choice.",
        columns=["parameters", "cell", "units", "rate", "excerpts", *PARTS.values(), "rest vs. RNN, nats", ""],
        rows=[
            [
                *(f"{model.parameters:,}", model.cell, str(model.hiddens), f"{rates[model]:g}"),
                *(str(len(of_parts["val"])), *(f"{perplexity(of_parts[part])}" for part in PARTS)),
                *verdict_of.get(model, ["", ""]),
            ]
            for model, of_parts in found.items()
        ],
        notes=[
            PAIRED,
            f"Cells whose chosen rate is the lowest or highest of the sweep: {'; '.join(edges) or 'none'}.",
        ],
        figures={"cells": _figure(found)},
    )


def _models(jobs: list[Job]) -> dict[Model, list[Job]]:
    """Return the jobs of each cell and size, from small to large."""
    groups = grouped((job for job in jobs if job.parameters), lambda job: job.parameters, "model.cell", "model.hiddens")
    sizes: dict[int, int] = {}
    smallest = 0
    for parameters in sorted(parameters for parameters, _, _ in groups):
        if parameters > EQUAL * smallest:
            smallest = parameters
        sizes[parameters] = smallest
    models = {
        Model(sizes[parameters], NAMES.get(cell, cell), hiddens, parameters): group
        for (parameters, cell, hiddens), group in groups.items()
    }
    return dict(sorted(models.items(), key=lambda item: item[0].size))


def _answer(jobs: list[Job], found: dict[Model, Values]) -> str:
    """Return the answer for the middle size."""
    sizes = sorted({model.size for model in found})
    size = sizes[len(sizes) // 2] if sizes else 0
    middle = {model.cell: of_parts["test"] for model, of_parts in found.items() if model.size == size}
    if line := missing(jobs, {f"{name} at the middle size": middle.get(name) for name in NAMES.values()}):
        return line
    gru, lstm = (percent(math.exp(compare(middle[cell], middle[PLAIN]).mean)) for cell in ("GRU", "LSTM"))
    parameters = next(model.parameters for model in found if model.size == size and model.cell == PLAIN)
    return (
        f"With equally many parameters, about {parameters / 1000:.0f},000, and updates, the perplexity of the rest of "
        f"the text is {gru} with the GRU than with the RNN, and {lstm} with the LSTM."
    )


def _figure(found: dict[Model, Values]) -> Picture:
    figure, ((axes,),) = panels()
    sizes = sorted({model.size for model in found})
    parameters = [span((model.parameters for model in found if model.size == size), ",") for size in sizes]
    perplexities = {
        (model.size, model.cell): [*map(math.exp, of_parts["test"].values())] for model, of_parts in found.items()
    }
    series = {cell: [perplexities.get((size, cell), []) for size in sizes]
              for cell in dict.fromkeys(model.cell for model in found)}  # fmt: skip
    points_by_place(axes, parameters, series)
    axes.set(xlabel="parameters", ylabel="perplexity of the rest of the text")
    return figure, "Each cell at the rate chosen on validation. Points: excerpts; bars: means."

"""Chapter 10, continued: Does the answer hold on other novels, and how far back do the cells read?"""

from itertools import product

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas import DataFrame

from timemachine.exercises import cells, history
from timemachine.exercises.comparison import estimate, paired
from timemachine.exercises.drawing import panels, points_by_place

BY = "data.corpus"
SETTINGS = (*cells.SETTINGS, BY)
SETUP = f"""
The models of `exercise=cells` with the rates and factors that were chosen there, trained on other novels: on the
first 150,000 windows, with 1,000 updates. Perplexities are of each novel's rest, read as one stream. Lead, gain,
fall and left: as there, but paired by novel. Reach, and how many characters suffice: as in [exercises 1 and
2](../history/report.md), on the last {history.NUM_TARGETS:,} characters; the largest number over the novels."""
CAPTION = (
    "Lead over the RNN of the same size. Circles: both with one rate for all weights; squares: both with the factors "
    "chosen on The Time Machine. One point per novel; bars: means."
)
INPUTS = {"slow": "one rate for all weights", "best": "tuned factors"}
FORMATS = cells.FORMATS | {"reach": ".1f"}


def table(jobs: DataFrame) -> DataFrame:
    """Return each model's perplexity, its lead over the RNN, its gain, and how far back it reads."""
    runs = _runs(jobs)
    is_near = runs[history.PERPLEXITIES].le(history.NEAR * runs[history.WHOLE], axis=0)
    suffice = is_near.set_axis(history.DISTANCES, axis=1).idxmax(axis=1).where(is_near.any(axis=1))
    measured = runs.assign(reach=history.reaches(runs), suffice=suffice)
    rows = measured.groupby([*cells.GROUP, "cell", "inputs"], sort=False)
    reading = {"reach": rows["reach"].agg(estimate), "characters that suffice": rows["suffice"].max()}
    return cells.compared(runs, BY).assign(**{name: column.to_numpy() for name, column in reading.items()})


def figure(jobs: DataFrame) -> Figure:
    """Draw the lead of each cell over the RNN on each novel: one panel per size."""
    runs = _runs(jobs)
    nats = cells.losses(runs, BY)
    groups = list(dict.fromkeys(key[:2] for key in nats))
    others = list(dict.fromkeys(key[2] for key in nats if key[2] != cells.PLAIN))
    parameters = runs.groupby(cells.GROUP)["parameters"].mean()
    fig, (row,) = panels(1, len(groups), width=3.6 * len(groups), sharey=True)
    for axes, group in zip(row, groups, strict=True):
        series: dict[str, list[list[float]]] = {name: [] for name in INPUTS.values()}
        for (inputs, name), cell in product(INPUTS.items(), others):
            one, other = (nats.get((*group, each, inputs), {}) for each in (cells.PLAIN, cell))
            series[name].append(paired(one, other))
        points_by_place(axes, [cell.replace(", ", ",\n") for cell in others], series)
        axes.axhline(0, color="grey", linewidth=1)
        axes.set_title(f"{parameters[group] / 1000:.0f},000 parameters")
    row[0].set_ylabel("nats per character: lead over the RNN")
    return fig


def _runs(jobs: DataFrame) -> DataFrame:
    """Return the runs, labelled by whether their factor is 1; a model whose best factor is 1 counts as both."""
    runs = cells.runs_of(jobs)
    runs = runs.assign(inputs=np.where(runs["factor"] == 1, "slow", "best"))
    has_best = runs.groupby(cells.MODEL)["factor"].transform("max") > 1
    both = pd.concat([runs, runs[~has_best].assign(inputs="best")])
    both = both.assign(place=both["cell"].map([*dict.fromkeys(runs["cell"])].index))
    return both.sort_values([*cells.GROUP, "inputs", "place"], ascending=[True, True, False, True], kind="stable")

"""Chapter 10: How much of a gate's gain is a learning rate?

A cell leads if its loss on the rest of the text is lower than the loss of the RNN with as many parameters. The lead is
measured twice: with one learning rate for all weights, and with a factor on the rate of the input weights, which is
chosen for each model together with the rate.
"""

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from pandas import DataFrame, Series

from timemachine.exercises.comparison import Estimate, at_best, compare, estimate, holm
from timemachine.exercises.drawing import lines, panels, plain_numbers, points_by_place
from timemachine.exercises.stream import PARTS
from timemachine.run.console import CELL_NAMES

FACTOR, RATE = "model.input_lr_factor", "model.lr"
MODEL = ["trainer.max_steps", "model.cell", "model.hiddens", "model.forget_bias"]
SETTINGS = (*MODEL, FACTOR, RATE)
SETUP = """
All models are trained with AdamW without weight decay on 90% of the novel, in batches of 32 windows. Perplexities are
of the text read as one stream. Each excerpt is a rotation of the text with another seed. Factor: the learning rate of
the first layer's input weights divided by the rate of all other weights. Rates and factors have the lowest mean
validation loss over the excerpts. Lead: the RNN's loss minus the cell's, both with a factor of 1 or both with their
best ones, in nats per character, paired by excerpt. Gain: the loss with a factor of 1 minus the loss with the best
one. Fall: the lead with a factor of 1 minus the lead with the best factors. Bold: significant after Holm's correction
over all leads, gains and falls. Left: the lead with the best factors as a share of the lead with a factor of 1."""
CAPTION = (
    "Perplexity of the rest of the text by factor, at the rates chosen on validation; last, the share of the lead over "
    "the RNN that is left with the best factors. Points: excerpts; bars: means."
)
NAMES = {cell: name.partition(" ")[2] for cell, name in CELL_NAMES.items()}  # without the article
PLAIN, GATED = "RNN", ("GRU", "LSTM")
GROUP = ["updates", "size"]  # models that are compared
INPUTS = ["slow", "best"]  # inputs with a factor of 1 and with the best one
EQUAL = 1.25  # largest ratio of parameters between models of one size
FORMATS = {"updates": ",.0f", "parameters": ",.0f"}


def table(jobs: DataFrame) -> DataFrame:
    """Return each model's perplexity with a factor of 1 and with the best one, its lead over the RNN, and its gain."""
    return compared(chosen(jobs), "data.start")


def compared(runs: DataFrame, by: str) -> DataFrame:
    """Return the table of the chosen runs, which are paired by the column `by`."""
    nats, rows = losses(runs, by), runs.groupby([*GROUP, "cell", "inputs"], sort=False)
    columns: dict[str, Any] = {name: rows[name].first() for name in ("parameters", "units", "factor", "rate")}
    columns |= {"runs": rows.size()} | {name: rows[part].agg(estimate) for part, name in PARTS.items()}
    differences = {("lead", *key): one for key, one in leads(nats).items()}
    differences |= {("gain", *key): one for key, one in gains(nats).items()}
    differences |= {("fall", *key): one for key, one in falls(nats).items()}
    claimed = holm(differences)
    for name in ("lead", "gain", "fall"):
        texts = {key[1:]: f"**{one:+.3f}**" if claimed[key] else f"{one:+.3f}" for key, one in differences.items()
                 if key[0] == name}  # fmt: skip
        columns[name] = Series(texts, dtype=object)
    left = {(*key, "best"): f"{estimate(values):.0%}" for key, values in shares(nats).items()}
    columns["left"] = Series(left, dtype=object)
    return DataFrame(columns).reindex(columns["runs"].index).droplevel(["size", "inputs"])


def leads(nats: DataFrame) -> dict[tuple[Hashable, ...], Estimate]:
    """Return the RNN's loss minus that of each other cell with the same inputs, by group, cell and inputs."""
    plain = {key: (*key[:2], PLAIN, key[3]) for key in nats if key[2] != PLAIN}
    return {key: compare(nats[rnn], nats[key]) for key, rnn in plain.items() if rnn in nats}


def gains(nats: DataFrame) -> dict[tuple[Hashable, ...], Estimate]:
    """Return the loss with a factor of 1 minus that with the best factor, by group, cell and inputs ("best").

    Without models whose best factor is 1.
    """
    slow = {key: (*key[:3], "slow") for key in nats if key[3] == "best"}
    return {key: compare(nats[one], nats[key]) for key, one in slow.items() if not nats[one].equals(nats[key])}


def falls(nats: DataFrame) -> dict[tuple[Hashable, ...], Estimate]:
    """Return a cell's lead with a factor of 1 minus its lead with the best factors, by group, cell and inputs ("best").

    It is the RNN's gain minus the cell's.
    """
    slow, best = _leads_by_excerpt(nats)
    return {(*key, "best"): compare(slow[key], best[key]) for key in best if key in slow}


def shares(nats: DataFrame) -> dict[tuple[Hashable, ...], Series]:
    """Return the lead with the best factors as a share of the lead with a factor of 1, by group and cell.

    A share has a value for each excerpt. Only of a lead whose interval is above zero: otherwise it means little.
    """
    slow, best = _leads_by_excerpt(nats)
    above = {key[:3] for key, one in leads(nats).items() if key[3] == "slow" and one.mean > one.half_width}
    return {key: best[key] / slow[key] for key in slow if key in above}


def _leads_by_excerpt(nats: DataFrame) -> list[dict[tuple[Hashable, ...], Series]]:
    """Return the leads with a factor of 1, and with the best factors, by group and cell."""
    return [
        {key[:3]: nats[(*key[:2], PLAIN, inputs)] - nats[key] for key in leads(nats) if key[3] == inputs}
        for inputs in INPUTS
    ]


def figure(jobs: DataFrame) -> Figure:
    """Draw the perplexity by factor, one panel per size, and the share of each gated cell's lead that is left."""
    runs, left = runs_of(jobs), shares(losses(chosen(jobs), "data.start"))
    groups = runs.groupby(GROUP)
    height = -(-(len(groups) + 1) // 2)
    fig, grid = panels(height, 2, width=9, height=3.5 * height)
    cells, names = [*runs["cell"].unique()], []
    for axes, ((updates, _), group) in zip(grid.flat, groups, strict=False):
        size = f"{group['parameters'].mean() / 1000:.0f},000"
        names.append(size if runs["updates"].nunique() == 1 else f"{size},\n{updates:,.0f} updates")
        best = at_best(group, [RATE], [*MODEL, FACTOR], "val nats")
        means = np.exp(best.groupby(["cell", FACTOR])["test nats"].mean())
        axes.set_xscale("log")
        lines(axes, {cell: means.get(cell, Series()).to_dict() for cell in cells}, marker=".")
        axes.set(title=f"{size} parameters, {updates:,.0f} updates", xlabel="factor on the rate of the input weights")
        axes.set_ylabel("perplexity, at each factor's best rate")
        plain_numbers(axes.xaxis, sorted(group[FACTOR].unique()))
        axes.minorticks_off()
    axes = grid.flat[len(groups)]
    series = {cell: [[*left.get((*key, cell), [])] if cell in GATED else [] for key, _ in groups] for cell in cells}
    points_by_place(axes, names, series)  # all cells: the colours of the lines
    axes.axhline(0, color="grey", linewidth=1)
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.set(title="share of the lead over the RNN that is left", xlabel="parameters")
    axes.set_ylabel("lead with best factors / with a factor of 1")
    for unused in grid.flat[len(groups) + 1 :]:
        unused.remove()
        axes.set_subplotspec(axes.get_gridspec()[-1, :])  # the whole width
    return fig


def runs_of(jobs: DataFrame) -> DataFrame:
    """Return the completed runs, the smallest models first, with the columns of the table.

    `size`: the smallest number of parameters of the models that a model is compared with.
    """
    runs = jobs[jobs["status"] == "completed"]
    sizes, size = {}, 0
    for parameters in sorted(runs["parameters"].unique()):
        size = parameters if parameters > EQUAL * size else size
        sizes[parameters] = size
    forget_bias = runs["model.forget_bias"].map(lambda bias: f", forget bias {bias:g}" if bias else "")
    return runs.assign(
        updates=runs["trainer.max_steps"],
        size=runs["parameters"].map(sizes),
        cell=runs["model.cell"].replace(NAMES) + forget_bias,
        units=runs["model.hiddens"],
        factor=runs[FACTOR],
        rate=runs[RATE],
        **{part: runs[f"stream/{part}/perplexity"] for part in PARTS},
        **{f"{part} nats": np.log(runs[f"stream/{part}/perplexity"]) for part in PARTS},
    ).sort_values(GROUP, kind="stable")


def chosen(jobs: DataFrame) -> DataFrame:
    """Return the runs of each model with a factor of 1, and those with the best one, at the best rate."""
    runs = runs_of(jobs)
    slow = at_best(runs[runs[FACTOR] == 1], [RATE], MODEL, "val nats")
    best = at_best(runs, [FACTOR, RATE], MODEL, "val nats")
    both = pd.concat([slow.assign(inputs="slow"), best.assign(inputs="best")])
    return both.sort_values(GROUP, kind="stable")


def losses(runs: DataFrame, by: str) -> DataFrame:
    """Return the loss of chosen runs on the rest of the text: one column per group, cell and inputs, rows by `by`."""
    return runs.pivot_table("test nats", by, [*GROUP, "cell", "inputs"])

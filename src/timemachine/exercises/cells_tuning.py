"""Chapter 10, continued: Which learning rates and initial scales suit which cell?"""

import pandas as pd
from matplotlib.figure import Figure
from pandas import DataFrame

from timemachine.exercises import cells
from timemachine.study.comparison import at_best
from timemachine.study.drawing import MARKERS, plain_numbers
from timemachine.study.figures import COLOURS, panels

SETTINGS = tuple(name for name in cells.SETTINGS if name != cells.TEXT)
SETUP = """
Excerpts of The Time Machine, rotations of the text with different seeds. All models are trained on 90% of the novel, in
batches of 32 windows. One rate, faster inputs and larger inputs: as in [exercise cells](../cells/report.md). Factor,
scale and rate have the lowest mean loss on the validation text over the excerpts, in nats per character. Lowest and
highest rate: of those tried with the chosen factor and scale."""
CAPTION = (
    "Validation loss by factor on the rate (left) and initial scale (right) of the input weights, at the best rate of "
    "each. A factor of 1 and a scale of 0.01 are one rate for all weights."
)
FORMATS = {"parameters": ",.0f", "validation": ".3f", "rate": "g", "lowest rate": "g", "highest rate": "g"}
CHOICE, LIMITS = ["factor", "scale", "rate"], ["lowest rate", "highest rate"]


def table(jobs: DataFrame) -> DataFrame:
    """Return the chosen factor, scale and rate of each model and way."""
    runs = runs_of(jobs)
    best = chosen(runs)
    model = [*cells.GROUP[:2], "cell"]
    rates = runs.groupby([*model, "factor", "scale"])["rate"].agg(["min", "max"]).set_axis(LIMITS, axis=1)
    rows = best.join(rates, [*model, "factor", "scale"]).groupby([*cells.GROUP, "cell"], sort=False)
    columns = {name: rows[name].first() for name in ("parameters", "units", *CHOICE, *LIMITS)}
    columns |= {"excerpts": rows.size(), "validation": rows["val nats"].mean()}
    return DataFrame(columns).droplevel("size")


def figure(jobs: DataFrame) -> Figure:
    """Draw the validation loss by factor and by scale, at the best rate of each: one row per size."""
    runs = runs_of(jobs)
    groups = runs.groupby(cells.GROUP[:2], sort=False)
    fig, grid = panels(len(groups), 2, height=3 * len(groups), sharey="row")
    for row, ((training, _), group) in zip(grid, groups, strict=True):
        for axes, name, way in zip(row, ("factor", "scale"), cells.WAYS[1:], strict=True):
            varied = group[group["way"] == way]
            if varied.empty:
                axes.remove()
                continue
            plain = group[(group["way"] == cells.WAYS[0]) & group["data.start"].isin(varied["data.start"])]
            ours = pd.concat([plain, varied])
            best = at_best(ours, ["rate"], ["cell", name], "val nats").groupby(["cell", name])["val nats"].mean()
            axes.set_xscale("log")
            for cell in (names := [*cells.NAMES.values()]):
                if cell in best:
                    style = {"color": COLOURS[names.index(cell)], "markersize": 4, "label": cell}
                    axes.plot(best[cell], MARKERS[names.index(cell)] + "-", **style)
            axes.set(title=f"{cells.thousands(group['parameters'].max())} parameters, {training}")
            axes.title.set_size("medium")
            axes.set_xlabel({"factor": "factor on the rate", "scale": "initial scale"}[name] + " of the input weights")
            plain_numbers(axes.xaxis, sorted(ours[name].unique()))
            axes.minorticks_off()
        first = next((axes for axes in row if axes.lines), row[0])
        first.tick_params(labelleft=True)  # hidden next to a panel that was removed
        first.set_ylabel("validation, nats per character")
    fig.legend(*grid[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig


def runs_of(jobs: DataFrame) -> DataFrame:
    """Return the runs with the columns of `cells.runs_of`, without faster inputs where no factor was varied."""
    runs = cells.runs_of(jobs)
    is_varied = runs.groupby([*cells.GROUP[:2], "cell"])["factor"].transform("nunique") > 1
    return runs[(runs["way"] != cells.WAYS[1]) | is_varied]


def chosen(runs: DataFrame) -> DataFrame:
    """Return the runs of each model and way with the settings that have the lowest mean validation loss.

    A factor of 1 is one of the factors.
    """
    is_varied = runs.groupby([*cells.GROUP[:2], "cell"])["factor"].transform("nunique") > 1
    plain = runs[(runs["way"] == cells.WAYS[0]) & is_varied].assign(way=cells.WAYS[1])
    runs = pd.concat([runs, plain]).drop_duplicates([*cells.GROUP, "cell", *CHOICE, "data.start"])
    best = at_best(runs, CHOICE, [*cells.GROUP, "cell"], "val nats")
    order = {name: [*dict.fromkeys(runs[name])] for name in (*cells.GROUP, "cell")}
    places = {f"{name} place": best[name].map(names.index) for name, names in order.items()}
    return best.assign(**places).sort_values([*places, "data.start"], kind="stable", ignore_index=True)

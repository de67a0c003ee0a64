"""Sweep

The report of a sweep without an exercise: varied settings and final numbers. The figure shows the metric that a search
would minimise: over the values of one setting, as a heat map of two, or over the epochs.
"""

from pathlib import Path
from textwrap import shorten

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pandas import DataFrame

from timemachine.exercises.comparison import estimate
from timemachine.exercises.drawing import COLOURS, panels, plain_numbers
from timemachine.run.console import short
from timemachine.run.jobs import METRIC, in_short, is_setting
from timemachine.run.rows import read_curve

SETTINGS = None
SETUP = """
Mean over the seeds of the completed runs ± the half-width of its 95% interval by Student's t. summary.csv has all
numbers of each run."""
CAPTION = (
    "The metric of a search, validation perplexity unless optimized_metric names another: final values "
    "(points are seeds, lines and cells their means, ± half of their range) or, if more than two settings vary, curves."
)
SHOWN = (
    METRIC,
    "best_val/perplexity",
    "train/perplexity",
    "test/perplexity",
    "val/bits_per_byte",
    "test/bits_per_byte",
)
HIGHEST = 100.0  # the figure clips values to this one
STYLES = [(colour, style) for style in ("-", "--", ":") for colour in COLOURS]  # of the rows in the legend


def table(jobs: DataFrame) -> DataFrame:
    """Return one row per combination of the settings that vary, except the seed: the best first, diverged ones last."""
    labels, metric = _labels(jobs), _metric(jobs)
    completed = jobs[jobs["status"] == "completed"]
    once = completed.drop_duplicates([name for name in jobs if is_setting(name)])  # a repeated seed counts once
    names = [name for name in dict.fromkeys([metric, *SHOWN]) if name in jobs]
    names += [name for name in jobs if "/" in name and name not in names]
    counts = {"runs": jobs.groupby(labels, sort=False).size(), "completed": completed.groupby(labels).size()}
    means = {
        name: once.groupby(labels)[name].agg(estimate) for name in names if pd.api.types.is_numeric_dtype(jobs[name])
    }
    rows = DataFrame(counts | means).fillna({"completed": 0}).astype({"completed": int})
    means_of_metric = once.groupby(labels)[metric].mean() if metric in once else None
    order = DataFrame({"fails": rows["completed"] < rows["runs"], "mean": means_of_metric}, counts["runs"].index)
    return rows.loc[order.sort_values(["fails", "mean"], kind="stable").index].rename_axis("settings")


def figure(jobs: DataFrame) -> Figure:
    """Draw the final metric over one varied setting, a heat map of two, or the metric over epochs for more."""
    names = [name for name in _settings(jobs) if name != "seed"]
    fig, ((axes,),) = panels(height=4.5)
    if len(names) == 2 and _metric(jobs) in jobs:
        draw_heat_map(axes, jobs, *names)
    elif len(names) == 1 and _metric(jobs) in jobs and pd.api.types.is_numeric_dtype(jobs[names[0]]):
        draw_values(axes, jobs, names[0])
    else:
        draw_curves(fig, axes, jobs)
    return fig


def draw_values(axes: Axes, jobs: DataFrame, name: str) -> None:
    """Draw the final metric of each run over a setting, and a line through the means; a tick at each value."""
    metric, values = _metric(jobs), sorted(jobs[name].astype(float).unique())
    final = jobs[metric].where(jobs["status"] == "completed")
    axes.plot(jobs[name].astype(float), final, "o", color=COLOURS[0], markerfacecolor="none")
    axes.plot(final.groupby(jobs[name].astype(float)).mean(), color=COLOURS[0])
    if values[0] > 0 and values[-1] >= 8 * values[0]:
        axes.set_xscale("log")
    plain_numbers(axes.xaxis, values)
    axes.set(xlabel=name, ylabel=metric)


def draw_heat_map(axes: Axes, jobs: DataFrame, row: str, column: str) -> None:
    """Write the mean of the final metric over the seeds, ± half of their range, into a cell for each pair of values."""
    metric = _metric(jobs)
    final = jobs.assign(value=jobs[metric].where(jobs["status"] == "completed").astype(float))
    cells = final.groupby([row, column])["value"].agg(["mean", "min", "max", "size"])
    means = cells["mean"].unstack()
    axes.imshow(np.log(means), cmap="viridis_r", aspect="auto")
    for (y, x), mean in np.ndenumerate(means):
        key = means.index[y], means.columns[x]
        spread = (cells["max"] - cells["min"]).get(key, np.nan) / 2
        text = "" if key not in cells.index else "diverged" if np.isnan(mean) else short(mean, 2)
        text += f" ± {spread:.2f}" if cells["size"].get(key, 0) > 1 and spread < 1e6 else ""
        axes.text(x, y, text, ha="center", va="center", fontsize="small",
                  bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0})  # fmt: skip
    axes.set_xticks(range(means.shape[1]), [*map(in_short, means.columns)])
    axes.set_yticks(range(means.shape[0]), [*map(in_short, means.index)])
    axes.grid(visible=False)
    axes.set(xlabel=column, ylabel=row, title=metric)


def draw_curves(fig: Figure, axes: Axes, jobs: DataFrame) -> None:
    """Draw the metric of each run over its epochs; the seeds of a row share a style."""
    labels, metric = _labels(jobs), _metric(jobs)
    last = jobs[metric].groupby(labels).mean() if metric in jobs else labels.groupby(labels).size()
    names = [*last.sort_values().index]
    for place, name in reversed([*enumerate(names)]):  # draw the lowest curve on top
        colour, style = STYLES[place] if place < len(STYLES) else ("lightgrey", "-")
        for number, folder in enumerate(jobs["folder"][labels == name]):
            if curve := read_curve(Path(folder, "metrics.csv"), metric):
                label = shorten(name, 45, placeholder=" …") if not number and place < len(STYLES) else None
                axes.plot([*curve], [min(value, HIGHEST) for value in curve.values()], style, color=colour,
                          linewidth=1.2, marker="." if len(curve) < 3 else None, label=label)  # fmt: skip
    axes.set(xlabel="epoch", ylabel=f"{metric} (log scale, at most {HIGHEST:g})")
    if axes.lines:  # matplotlib rejects a log axis without data
        axes.set_yscale("log")
        plain_numbers(axes.yaxis)
        fig.legend(
            *(part[::-1] for part in axes.get_legend_handles_labels()), loc="outside right upper", fontsize="small"
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _metric(jobs: DataFrame) -> str:
    """Return the runs' `optimized_metric`."""
    recorded = jobs["optimized_metric"].dropna() if "optimized_metric" in jobs else ()
    return str(next(iter(recorded), METRIC))


def _settings(jobs: DataFrame) -> list[str]:
    """Return the settings that vary."""
    return [name for name in jobs if is_setting(name) and jobs[name].nunique(dropna=False) > 1]


def _labels(jobs: DataFrame) -> pd.Series:
    """Return the settings of each run that vary, except the seed, such as "lr=1, hiddens=32"."""
    names = [name for name in _settings(jobs) if name != "seed"]
    cells = [name.rpartition(".")[2] + "=" + jobs[name].map(in_short) for name in names]
    return pd.concat(cells, axis=1).agg(", ".join, axis=1) if cells else pd.Series("the run", jobs.index)

"""Sweep

The report of a sweep without an exercise: varied settings and final numbers. The figure shows the metric that a search
would minimise: as a heat map of two settings, or in one panel for each setting.
"""

import math
from textwrap import shorten
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator
from pandas import DataFrame

from timemachine.config import short
from timemachine.run.run import METRIC, load_run
from timemachine.study.comparison import estimate
from timemachine.study.drawing import plain_numbers
from timemachine.study.figures import COLOURS, panels
from timemachine.study.jobs import SYMBOLS, have_one_text, in_short, is_setting, metric_of

SETTINGS = None
SETUP = """
Mean over the seeds of the completed runs ± the half-width of its 95% interval by Student's t. summary.csv has all
numbers of each run."""
CAPTION = (
    "Final values of the metric that a search would minimise, or bits per byte if vocabularies differ: as a heat map "
    "of two settings (means over the seeds that completed, ± half of their range; white if one diverged), or over each "
    "setting that varies (points are completed runs, lines their means, crosses at the top runs that diverged)."
)
SHOWN = (
    METRIC,
    "best_val/perplexity",
    "train/perplexity",
    "test/perplexity",
    "val/bits_per_byte",
    "test/bits_per_byte",
)
PRECISE = (f"{part}/{score}" for part in ("train", "val", "best_val", "test") for score in ("loss", "bits_per_byte"))
FORMATS = dict.fromkeys(PRECISE, ".3f")
FEW = 8  # values of a setting that get a tick each, and their mean: a search tries another value in each run
MAX_DRAWN = 100.0  # larger values of the metric are drawn at this one
LINE_STYLES = [(colour, style) for style in ("-", "--", ":") for colour in COLOURS]  # of the rows in the legend


def table(jobs: DataFrame) -> DataFrame:
    """Return one row per combination of the settings that vary, except the seed: diverged ones last.

    The best one is first if all runs have one text.
    """
    labels, metric = _labels(jobs), metric_of(jobs)
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
    by = ["fails", "mean"] if have_one_text(jobs) else ["fails"]
    return rows.loc[order.sort_values(by, kind="stable").index].rename_axis("settings")


def figure(jobs: DataFrame) -> Figure:
    """Draw the final metric as a heat map of two settings or over each setting; over the epochs if none varies."""
    names, metric = [name for name in _settings(jobs) if name not in ("seed", *SYMBOLS)], metric_of(jobs)
    if not names or metric not in jobs:
        fig = figure_of_epochs(jobs)
    elif len(names) == 2 and _is_grid(jobs[names]):
        fig, ((axes,),) = panels(height=4.5)
        draw_heat_map(axes, jobs, *names)
    else:
        rows, columns = math.ceil(len(names) / 3), min(len(names), 3)
        fig, grid = panels(rows, columns, height=1 + 3.5 * rows, sharey=True)
        for axes, name in zip(grid.flat, names, strict=False):
            draw_values(axes, jobs, name)
        for axes in grid.flat[len(names) :]:
            axes.set_visible(False)
        for axes in grid[:, 0]:
            axes.set_ylabel(metric)
    return fig


def figure_of_epochs(jobs: DataFrame) -> Figure:
    """Draw the metric of each run over its epochs, on one axis."""
    fig, ((axes,),) = panels(height=4.5)
    draw_epochs(fig, axes, jobs)
    return fig


def draw_values(axes: Axes, jobs: DataFrame, name: str) -> None:
    """Draw the final metric of each completed run over a setting, and the means; a tick at each of a few values.

    Crosses at the top: runs without one.
    """
    final, x = _final(jobs), jobs[name]
    places, values = _places(x)
    are_numbers = pd.api.types.is_numeric_dtype(x) and not pd.api.types.is_bool_dtype(x) and x.notna().all()
    x = x.astype(float) if are_numbers else places
    axes.plot(x, final, "o", color=COLOURS[0], markerfacecolor="none")
    if (lost := x[final.isna()]).size:
        top = np.full(lost.size, 0.97)
        axes.plot(lost, top, "x", color=COLOURS[1], transform=axes.get_xaxis_transform())
    # The values that a sampler draws have many digits.
    are_few = len(values) <= FEW and not (are_numbers and any(value != float(f"{value:.4g}") for value in values))
    if are_few:
        axes.plot(final.groupby(x).mean(), "-" if are_numbers else "_", markersize=20, color=COLOURS[0])
    if not are_numbers:
        axes.set(xticks=range(len(values)), xticklabels=[*map(in_short, values)], xlim=(-0.5, len(values) - 0.5))
    elif x.min() > 0 and x.max() >= 8 * x.min():
        axes.set_xscale("log")
        subs = (1, 2, 5) if x.max() <= 100 * x.min() else (1,)  # labels that do not overlap
        ticks = values if are_few else LogLocator(subs=subs).tick_values(x.min(), x.max())
        plain_numbers(axes.xaxis, [tick for tick in ticks if x.min() <= tick <= x.max()])
    elif are_few:
        plain_numbers(axes.xaxis, [*values])
    axes.set_xlabel(name)


def draw_heat_map(axes: Axes, jobs: DataFrame, row: str, column: str) -> None:
    """Write the mean of the final metric over the seeds, ± half of their range, into a cell for each pair of values.

    A cell where not all seeds completed says so and has no colour: the mean of the others could be the best one.
    """
    (y_places, y_values), (x_places, x_values) = _places(jobs[row]), _places(jobs[column])
    cells = _final(jobs).groupby([y_places, x_places]).agg(["mean", "min", "max", "count", "size"])
    whole = cells["mean"].where(cells["count"] == cells["size"])
    is_log = whole.min() > 0
    image = axes.imshow(whole.unstack(), cmap="viridis_r", aspect="auto", norm="log" if is_log else None)
    for (y, x), (mean, lowest, highest, count, size) in zip(cells.index, cells.to_numpy(), strict=True):
        spread = (highest - lowest) / 2
        text = "diverged" if np.isnan(mean) else short(mean)
        text += f" ± {spread:.3f}" if count > 1 and spread < 1e6 else ""
        text += f"\n{count:.0f} of {size:.0f}" if 0 < count < size else ""
        axes.text(x, y, text, ha="center", va="center", fontsize="small",
                  bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0})  # fmt: skip
    axes.set_xticks(range(len(x_values)), [*map(in_short, x_values)])
    axes.set_yticks(range(len(y_values)), [*map(in_short, y_values)])
    axes.grid(visible=False)
    metric = metric_of(jobs)
    over_seeds = ", mean over seeds ± half of their range" if cells["size"].max() > 1 else ""
    axes.set(xlabel=column, ylabel=row, title=f"{metric}{over_seeds}")
    if whole.notna().any():
        bar = axes.figure.colorbar(image, label=f"{metric}{': lower is better' if have_one_text(jobs) else ''}")
        if is_log:
            plain_numbers(bar.ax.yaxis)


def draw_epochs(fig: Figure, axes: Axes, jobs: DataFrame) -> None:
    """Draw the metric of each run over its epochs; the seeds of a row share a style."""
    labels, metric = _labels(jobs), metric_of(jobs)
    last = jobs[metric].groupby(labels).mean() if metric in jobs else labels.groupby(labels).size()
    names = [*last.sort_values().index]
    for place, name in reversed([*enumerate(names)]):  # draw the lowest curve on top
        colour, style = LINE_STYLES[place] if place < len(LINE_STYLES) else ("lightgrey", "-")
        for number, folder in enumerate(jobs["folder"][labels == name]):
            if curve := curve_of(folder, metric):
                label = shorten(name, 45, placeholder=" …") if not number and place < len(LINE_STYLES) else None
                axes.plot([*curve], [min(value, MAX_DRAWN) for value in curve.values()], style, color=colour,
                          linewidth=1.2, marker="." if len(curve) < 3 else None, label=label)  # fmt: skip
    axes.set(xlabel="epoch", ylabel=f"{metric} (log scale, at most {MAX_DRAWN:g})")
    if axes.lines:  # matplotlib rejects a log axis without data
        axes.set_yscale("log")
        plain_numbers(axes.yaxis)
        fig.legend(
            *(part[::-1] for part in axes.get_legend_handles_labels()), loc="outside right upper", fontsize="small"
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def curve_of(folder: str, metric: str) -> dict[float, float]:
    """Return a metric of a run by epoch, {} if it was not measured."""
    rows = [row for row in load_run(folder).curves if not math.isnan(row.get(metric, math.nan))]
    return {row["epoch"]: row[metric] for row in rows}


def _final(jobs: DataFrame) -> pd.Series:
    """Return the final metric of each run, NaN unless it has completed."""
    return jobs[metric_of(jobs)].where(jobs["status"] == "completed").astype(float)


def _places(setting: pd.Series) -> tuple[pd.Series, Any]:
    """Return the place of each run's value among the sorted values, from 0, and these values; null is the last."""
    places, values = pd.factorize(setting, sort=True, use_na_sentinel=False)
    return pd.Series(places, setting.index), values


def _is_grid(settings: DataFrame) -> bool:
    """Return whether at least half of all pairs of two settings' values were tried. A search tries fewer."""
    pairs, counts = len(settings.drop_duplicates()), settings.nunique(dropna=False)
    return bool(2 * pairs >= math.prod(counts) and pairs > max(counts))


def _settings(jobs: DataFrame) -> list[str]:
    """Return the settings that vary."""
    return [name for name in jobs if is_setting(name) and jobs[name].nunique(dropna=False) > 1]


def _labels(jobs: DataFrame) -> pd.Series:
    """Return the settings of each run that vary, except the seed, such as "lr=1, hiddens=32"."""
    names = [name for name in _settings(jobs) if name != "seed"]
    cells = [name.rpartition(".")[2] + "=" + jobs[name].map(in_short) for name in names]
    return pd.concat(cells, axis=1).agg(", ".join, axis=1) if cells else pd.Series("the run", jobs.index)

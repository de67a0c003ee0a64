"""Sweep

The report of a sweep without an exercise: varied settings, final numbers and validation curves.
"""

from pathlib import Path
from textwrap import shorten

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pandas import DataFrame

from timemachine.exercises.comparison import estimate
from timemachine.exercises.drawing import COLOURS, panels, plain_numbers
from timemachine.run.jobs import in_short, is_setting
from timemachine.run.rows import read_curve

SETTINGS = None
SETUP = """
Mean over the seeds of the completed runs ± the half-width of its 95% interval by Student's t. summary.csv has all
numbers of each run."""
CAPTION = "Validation perplexity over epochs, one line per run; the seeds of a row share a style."
VAL = "val/perplexity"
SHOWN = ("train/perplexity", VAL, "best_val/perplexity", "test/perplexity", "val/bits_per_byte", "test/bits_per_byte")
HIGHEST = 100.0  # the figure clips perplexities to this value
STYLES = [(colour, style) for style in ("-", "--", ":") for colour in COLOURS]  # of the rows in the legend


def table(jobs: DataFrame) -> DataFrame:
    """Return one row per combination of the settings that vary, except the seed."""
    labels = _labels(jobs)
    completed = jobs[jobs["status"] == "completed"]
    once = completed.drop_duplicates([name for name in jobs if is_setting(name)])  # a repeated seed counts once
    numbers = [name for name in SHOWN if name in jobs] + [name for name in jobs if "/" in name and name not in SHOWN]
    counts = {"runs": jobs.groupby(labels, sort=False).size(), "completed": completed.groupby(labels).size()}
    means = {
        name: once.groupby(labels)[name].agg(estimate) for name in numbers if pd.api.types.is_numeric_dtype(jobs[name])
    }
    rows = DataFrame(counts | means).fillna({"completed": 0}).astype({"completed": int})
    return rows.loc[counts["runs"].index].rename_axis("settings")


def figure(jobs: DataFrame) -> Figure:
    """Draw the validation perplexity of each run over its epochs."""
    labels = _labels(jobs)
    fig, ((axes,),) = panels(width=9, height=4.5)
    last = jobs[VAL].groupby(labels).mean() if VAL in jobs else labels.groupby(labels).size()
    names = [*last.sort_values().index]
    for place, name in reversed([*enumerate(names)]):  # draw the lowest curve on top
        colour, style = STYLES[place] if place < len(STYLES) else ("lightgrey", "-")
        for number, folder in enumerate(jobs["folder"][labels == name]):
            if curve := read_curve(Path(folder, "metrics.csv"), VAL):
                label = shorten(name, 45, placeholder=" …") if not number and place < len(STYLES) else None
                axes.plot([*curve], [min(value, HIGHEST) for value in curve.values()], style, color=colour,
                          linewidth=1.2, marker="." if len(curve) < 3 else None, label=label)  # fmt: skip
    axes.set(xlabel="epoch", ylabel=f"validation perplexity (log scale, at most {HIGHEST:g})")
    if axes.lines:  # matplotlib rejects a log axis without data
        axes.set_yscale("log")
        plain_numbers(axes.yaxis)
        fig.legend(
            *(part[::-1] for part in axes.get_legend_handles_labels()), loc="outside right upper", fontsize="small"
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return fig


def _settings(jobs: DataFrame) -> list[str]:
    """Return the settings that vary."""
    return [name for name in jobs if is_setting(name) and jobs[name].nunique(dropna=False) > 1]


def _labels(jobs: DataFrame) -> pd.Series:
    """Return the settings of each run that vary, except the seed, such as "lr=1, hiddens=32"."""
    names = [name for name in _settings(jobs) if name != "seed"]
    cells = [name.rpartition(".")[2] + "=" + jobs[name].map(in_short) for name in names]
    return pd.concat(cells, axis=1).agg(", ".join, axis=1) if cells else pd.Series("the run", jobs.index)

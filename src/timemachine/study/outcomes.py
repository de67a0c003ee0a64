"""Outcome of a run: whether it learns, that is, predicts better than the book's n-grams."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from pandas import DataFrame

from timemachine.study.comparison import share_interval
from timemachine.study.drawing import MARKERS, name_line
from timemachine.study.figures import COLOURS

LEARNS = """
A run learns if its last validation perplexity is below the perplexity of the book's n-grams (section 9.3), which are
counted in the same training text and smoothed by Laplace's rule (`trigrams/val` in summary.csv). Validation: window
perplexity of the runs that learn, mean ± the half-width of its 95% interval."""


def outcomes(jobs: DataFrame) -> DataFrame:
    """Return the jobs with these columns added, without completed jobs that lack a validation or the n-grams.

    `η`: learning rate. `clipping`: "none" or "θ = 1", in this order. `norm`: largest norm of a gradient before
    clipping, inf if one was not finite. `step`: η times the largest norm after clipping. `learns`. `validation`: the
    perplexity of a run that learns, else NaN.
    """
    is_measured = jobs[["val/perplexity", "trigrams/val"]].notna().all(axis=1)
    jobs = jobs[is_measured | (jobs["status"] != "completed")]
    theta, norm = jobs["trainer.gradient_clip_val"].astype(float), jobs["largest_grad_norm"].fillna(math.inf)
    learns = (jobs["status"] == "completed") & (jobs["val/perplexity"] < jobs["trigrams/val"])
    columns = {
        "η": jobs["model.lr"].astype(float),
        "clipping": [f"θ = {value:g}" if value > 0 else "none" for value in theta],
        "norm": norm,
        "step": jobs["model.lr"] * np.minimum(norm, theta.fillna(math.inf)),
        "learns": learns,
        "validation": jobs["val/perplexity"].where(learns),
    }
    order = theta.fillna(math.inf).sort_values(ascending=False, kind="stable").index
    return jobs.assign(**columns).loc[order]


def counted(learns: Iterable[bool]) -> str:
    """Return "n of m": how many of the runs learn."""
    runs = list(learns)
    return f"{sum(runs)} of {len(runs)}"


def draw_shares(axes: Axes, runs: DataFrame, by: str, places: Sequence[Any]) -> None:
    """Draw the share of runs that learn, with its 95% interval, at each of the `places`, values of the column `by`.

    One series per clipping. Where a radius never clipped, its runs are those without clipping, and are drawn once.
    """
    names = [*runs["clipping"].unique()]
    is_free = runs["clipping"] == "none"
    clips = runs.groupby([by, "clipping"])["clipped_steps"].transform("max") > 0
    runs = runs[is_free | clips | ~runs[by].isin(runs[by][is_free])]
    drawn = runs.groupby(by)["clipping"].unique().map(list)
    for number, name in enumerate(names):
        learn = runs[runs["clipping"] == name].groupby(by)["learns"].agg(["sum", "count"])
        x = [places.index(at) + 0.15 * (drawn[at].index(name) - (len(drawn[at]) - 1) / 2) for at in learn.index]
        shares = learn["sum"] / learn["count"]
        limits = np.array([share_interval(*row) for row in learn.itertuples(index=False)]).T
        axes.errorbar(x, shares, np.abs(limits - shares.to_numpy()), fmt=MARKERS[number], color=COLOURS[number],
                      label=name, markerfacecolor="none", elinewidth=1)  # fmt: skip
    axes.set_xticks(range(len(places)), [str(place) for place in places])
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("share of runs that learn")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")


def draw_runs(axes: Axes, runs: DataFrame) -> None:
    """Draw each run's validation perplexity, relative to the n-grams', by clipping; runs that diverged at the top."""
    ratios = (runs["val/perplexity"] / runs["trigrams/val"]).where(runs["status"] == "completed")
    top, names = 3 * max(ratios.max(), 1.0), [*runs["clipping"].unique()]
    for number, name in enumerate(names):
        ours = ratios[runs["clipping"] == name]
        x = number + 0.1 * (np.arange(len(ours)) - (len(ours) - 1) / 2)
        axes.plot(x, ours.fillna(top), MARKERS[number], color=COLOURS[number], markerfacecolor="none")
    axes.axhline(1, color="grey", linewidth=1)
    name_line(axes, "n-grams", 1, "grey")
    axes.set(yscale="log", xlabel="clipping", xlim=(-0.5, len(names) - 0.5), ylim=(None, 1.3 * top))
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("validation perplexity / n-grams'")
    ticks = [0.5, 1, *([top] if ratios.isna().any() else [])]
    axes.set_yticks(ticks, ["diverged" if tick == top else f"{tick:g}" for tick in ticks])
    axes.minorticks_off()

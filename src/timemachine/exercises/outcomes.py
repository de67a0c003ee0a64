"""Outcome of a run: whether it learns, that is, predicts better than the book's n-grams."""

import math
from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import ScaledTranslation
from pandas import DataFrame

from timemachine.exercises.drawing import COLOURS, MARKERS

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


def draw_shares(axes: Axes, runs: DataFrame, by: str, label: str) -> None:
    """Draw the share of runs that learn against the values of the column `by`: one line per value of `label`.

    Each line is shifted by 2 points from the previous one. Ticks are at the values.
    """
    shares = runs.groupby([label, by], sort=False)["learns"].mean().unstack(label, sort=False).sort_index()
    for number, name in enumerate(shares):
        shift = (number - (shares.shape[1] - 1) / 2) / 36  # 2 points, in inches: equal lines stay visible
        shifted = axes.transData + ScaledTranslation(shift, shift, axes.figure.dpi_scale_trans)
        axes.plot(shares[name], MARKERS[number] + "-", color=COLOURS[number], label=name, markerfacecolor="none",
                  transform=shifted, clip_on=False)  # fmt: skip
    axes.set_xticks(shares.index, [f"{value:g}" for value in shares.index])
    margin = 0.05 * (shares.index[-1] - shares.index[0]) or 1
    axes.set_xlim(shares.index[0] - margin, shares.index[-1] + margin)
    axes.set_ylabel("share of runs that learn")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")

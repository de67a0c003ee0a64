"""Exercise 9: What happens if you run the code without clipping the gradient?"""

import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame

from timemachine.study.comparison import estimate
from timemachine.study.drawing import MARKERS
from timemachine.study.figures import COLOURS, panels
from timemachine.study.outcomes import LEARNS, counted, draw_runs, draw_shares, outcomes

SETTINGS = ("model.lr", "trainer.gradient_clip_val")
SETUP = f"""
The recipe's run at several learning rates η, without clipping and with gradients clipped to a radius θ. Each seed has a
different excerpt, a rotation of the text. A run is stopped once its validation perplexity exceeds 1,000. {LEARNS} Norms
are those of gradients before clipping."""
CAPTION = (
    "Left: share of the runs that learn, with 95% intervals, by rate and radius; or, with one rate, each run's "
    "validation perplexity. Right: each run, by its longest step and its radius."
)


def table(jobs: DataFrame) -> DataFrame:
    """Return how many runs learn, for each radius and rate."""
    runs = outcomes(jobs)
    groups = runs.assign(clipped=runs["clipped_steps"] > 0).groupby(["clipping", "η"], sort=False)
    return DataFrame(
        {
            "beat n-grams": groups["learns"].agg(counted),
            "validation": groups["validation"].agg(estimate),
            "largest norm": groups["norm"].max(),
            "runs clipped": groups["clipped"].sum(),
        }
    )


def figure(jobs: DataFrame) -> Figure:
    """Draw the share of runs that learn by rate, or each run if there is one rate, and the longest step of each run."""
    runs = outcomes(jobs)
    fig, ((left, right),) = panels(1, 2, height=3.6)
    rates = [f"{rate:g}" for rate in sorted(runs["η"].unique())]
    if len(rates) > 1:
        draw_shares(left, runs.assign(rate=runs["η"].map("{:g}".format)), "rate", rates)
        left.set(xlabel="learning rate η", ylim=(-0.05, 1.05))
        left.legend(title="clipping")
    else:
        draw_runs(left, runs)
    names = [*runs["clipping"].unique()]
    spread = np.random.default_rng(0).uniform(-0.3, 0.3, len(runs))
    places = runs["clipping"].map(names.index) + spread
    for learns, label, colour in ((True, "learns", COLOURS[3]), (False, "fails", COLOURS[6])):
        chosen = runs["learns"] == learns
        right.plot(runs["step"][chosen], places[chosen], MARKERS[not learns], color=colour, label=label,
                   markersize=4, markerfacecolor="none")  # fmt: skip
    right.set(xscale="log", xlabel="longest step of a run: η × largest norm after clipping")
    right.set_ylim(-0.5, len(names) - 0.5)
    right.set_yticks(range(len(names)), names)
    right.legend(loc="upper right")
    return fig

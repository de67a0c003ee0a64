"""Chapter 10: Do gates help, at equal numbers of parameters and updates?"""

import numpy as np
from matplotlib.figure import Figure
from pandas import DataFrame

from timemachine.exercises.comparison import at_best_rate, compare, estimate, verdicts
from timemachine.exercises.drawing import panels, points_by_place
from timemachine.exercises.stream import PARTS
from timemachine.run.console import CELL_NAMES

SETTINGS = ("model.cell", "model.hiddens", "model.lr")
SETUP = """
All models are trained with AdamW on 90% of the novel, in batches of 32 windows. Perplexities are of the text read as
one stream. Each excerpt is a rotation of the text with a different held-out part and a different seed. A row shows the
learning rate with the lowest mean validation perplexity over the excerpts; the rest of the text was not used for this
choice. Differences are paired by excerpt. Holm's correction applies to the last column, not to the ± intervals."""
CAPTION = "Each cell at the rate chosen on validation. Points: excerpts; bars: means."
NAMES = {cell: name.partition(" ")[2] for cell, name in CELL_NAMES.items()}  # without the article
PLAIN, VERSUS = "RNN", "rest vs. RNN, nats"
FORMATS = {"parameters": ",.0f"}
KEY = ["size", "parameters", "cell", "units", "rate"]
EQUAL = 1.25  # largest ratio of parameters between models of one size


def table(jobs: DataFrame) -> DataFrame:
    """Return the perplexity of each cell and size at its best rate, compared with the RNN of the same size."""
    runs = _runs(jobs)
    groups = runs.groupby(KEY, sort=False)
    rows = DataFrame({"excerpts": groups.size()} | {name: groups[part].agg(estimate) for part, name in PARTS.items()})
    nats = runs.pivot_table("test nats", "data.start", KEY)
    plain = {key[0]: nats[key] for key in nats if key[2] == PLAIN}
    gains = {key: compare(nats[key], plain[key[0]]) for key in nats if key[2] != PLAIN and key[0] in plain}
    rows[[VERSUS, ""]] = DataFrame(verdicts(gains), index=[VERSUS, ""]).T
    return rows.droplevel("size")


def figure(jobs: DataFrame) -> Figure:
    """Draw the perplexity of the rest of the text on each excerpt: one place per size, one colour per cell."""
    runs = _runs(jobs)
    fig, ((axes,),) = panels()
    spans = runs.groupby("size")["parameters"].agg(["min", "max"])
    values = runs.groupby(["cell", "size"])["test"].agg(list)
    series = {cell: [values.get((cell, size), []) for size in spans.index] for cell in runs["cell"].unique()}
    points_by_place(axes, [f"{low:,.0f} to {high:,.0f}" for low, high in spans.to_numpy()], series)
    axes.set(xlabel="parameters", ylabel="perplexity of the rest of the text")
    return fig


def _runs(jobs: DataFrame) -> DataFrame:
    """Return the runs of each model at its best rate, the smallest models first.

    `size`: the smallest number of parameters of the models that a model is compared with.
    """
    nats = {f"{part} nats": np.log(jobs[f"stream/{part}/perplexity"]) for part in PARTS}
    runs = at_best_rate(jobs.assign(**nats), ["model.cell", "model.hiddens"], "val nats")
    sizes, size = {}, 0
    for parameters in sorted(runs["parameters"].unique()):
        size = parameters if parameters > EQUAL * size else size
        sizes[parameters] = size
    return runs.assign(
        size=runs["parameters"].map(sizes),
        cell=runs["model.cell"].replace(NAMES),
        units=runs["model.hiddens"],
        rate=runs["model.lr"],
        **{part: runs[f"stream/{part}/perplexity"] for part in PARTS},
    ).sort_values("size", kind="stable")

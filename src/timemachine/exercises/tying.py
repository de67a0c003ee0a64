"""Next edition, exercise 7: Tie the output weights to the embedding. What does it save, and what does it do?"""

from matplotlib.figure import Figure
from pandas import DataFrame

from timemachine.study.comparison import against, estimate, verdicts
from timemachine.study.drawing import points_by_place
from timemachine.study.figures import panels
from timemachine.study.stream import PARTS, SCORE_FORMATS, SCORES

SETTINGS = ("model.tie_weights", "model.embedding_sigma", "model.lr", "model.input_lr_factor")
SETUP = """
σ is the initial standard deviation of the embedding's entries. A tied model divides its input embeddings by σ, so that
they have variance 1 as in the untied model. Each excerpt is a rotation of the text with a different held-out part and a
different seed; the tokens are learned from the whole text. The text is read as one stream. A run whose last validation
perplexity is above the number of tokens counts as diverged. Differences are paired by excerpt. Holm's correction
applies to the last column, not to the ± intervals."""
CAPTION = "Bits per byte of the runs that did not diverge. Points: excerpts; bars: means."
KEY, UNTIED = ["output weights", "rate"], ("untied", 4.0)  # the baseline: the book's model
VERSUS = "rest vs. untied, bits"
FORMATS = {"parameters": ",.0f"} | SCORE_FORMATS


def table(jobs: DataFrame) -> DataFrame:
    """Return the scores of tied and untied models, and the difference of their bits per byte."""
    runs = _runs(jobs)
    groups = runs.groupby(KEY, sort=False)
    counts = {
        "parameters": groups["parameters"].first(),
        "diverged": groups["diverged"].sum(),
        "excerpts": groups.size(),
    }
    rows = DataFrame(counts | {name: groups[column].agg(estimate) for name, column in SCORES.items()})
    gains = against(UNTIED, runs.pivot_table("stream/test/bits_per_byte", "data.start", KEY))
    rows[[VERSUS, ""]] = DataFrame(verdicts(gains), index=[VERSUS, ""]).T
    return rows


def figure(jobs: DataFrame) -> Figure:
    """Draw the bits per byte of each run that did not diverge, on both parts: one place per kind of model."""
    fig, ((axes,),) = panels()
    places: list[str] = []
    missing: list[str] = []
    series: dict[str, list[list[float]]] = {title: [] for title in PARTS.values()}
    for (name, rate), runs in _runs(jobs).groupby(KEY, sort=False):
        if runs["diverged"].any():
            missing.append(f"{name}, rate {rate:g}: {runs['diverged'].sum()} of {len(runs)} runs diverged")
        if runs["diverged"].all():
            continue
        places.append(f"{name}, rate {rate:g}".replace(", ", ",\n"))
        for part, title in PARTS.items():
            series[title].append([*runs[f"stream/{part}/bits_per_byte"][~runs["diverged"]]])
    points_by_place(axes, places, series)
    axes.set(ylabel="bits per byte", xlabel="; ".join(missing))
    return fig


def _runs(jobs: DataFrame) -> DataFrame:
    """Return the runs with a name of their output weights, their rate, and whether they diverged."""
    tied, factor, sigma = (jobs[f"model.{name}"] for name in ("tie_weights", "input_lr_factor", "embedding_sigma"))
    scale = sigma.map(", σ = {:g}".format).where(tied | (sigma != 1), "")
    speed = factor.map(", inputs {:g} times as fast".format).where(factor != 1, "")
    name = tied.map({True: "tied", False: "untied"}) + scale + speed
    return jobs.assign(**{"output weights": name}, rate=jobs["model.lr"], diverged=jobs["status"] == "diverged")

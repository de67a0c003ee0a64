"""Exercise 11: Would your answers survive another excerpt? (not in the book)"""

import math

from matplotlib.figure import Figure
from pandas import DataFrame, Series

from timemachine.study.comparison import against, estimate
from timemachine.study.drawing import points_by_place
from timemachine.study.figures import panels

BOOK, EXCERPT = 32, "excerpt starts at"  # time steps; setting data.start
SETTINGS = ("data.num_steps",)
SETUP = f"""
The book's model, trained on 10,000 windows that start at different places of the text, with several seeds each; the
same with another number of time steps, and as many characters per update. Perplexity is of the rest of the text, read
as one stream. Differences are paired by seed. ± is the half-width of the 95% interval over the seeds of an excerpt, in
the last row over excerpts, after averaging over seeds. Deviation: the standard deviation of the perplexity with {BOOK}
time steps over seeds, in the last row over excerpts, after subtracting the variance that comes from the seeds."""
CAPTION = "Perplexity on each excerpt. Points: seeds; bars: means."
FORMATS = {"deviation": ".2f"}


def table(jobs: DataFrame) -> DataFrame:
    """Return the perplexity on each excerpt with each number of time steps, and the difference from the book's."""
    perplexities = _perplexities(jobs)
    excerpts, nats = (frame.groupby(level=EXCERPT) for frame in (perplexities, perplexities.map(math.log)))
    means = excerpts.agg(estimate)
    means.loc["all"] = excerpts.mean().agg(estimate)
    gains = {start: against(BOOK, of_excerpt) for start, of_excerpt in nats} | {"all": against(BOOK, nats.mean())}
    differences = DataFrame(gains).T.map("{:+.3f}".format).rename(columns=f"{{}} vs. {BOOK}, nats".format)
    book = perplexities.reindex(columns=[BOOK])[BOOK]
    deviations = book.groupby(level=EXCERPT).std()
    deviations["all"] = spreads(book)[1]
    rows = DataFrame({"seeds": excerpts.size()}, index=means.index)
    return rows.join([means.rename(columns="{} time steps".format), differences, deviations.rename("deviation")])


def figure(jobs: DataFrame) -> Figure:
    """Draw the perplexity of each run: one place per excerpt, one colour per number of time steps."""
    excerpts = _perplexities(jobs).groupby(level=EXCERPT)
    fig, ((axes,),) = panels()
    lists = excerpts.agg(list)
    series = {f"{window} time steps": [*values] for window, values in lists.items()}
    points_by_place(axes, [f"{start:,}" for start in lists.index], series)
    axes.set(xlabel="the training text starts at this character", ylabel="perplexity of the rest of the text")
    return fig


def spreads(perplexities: Series) -> tuple[float, float]:
    """Return the standard deviations between the seeds of an excerpt, and between excerpts."""
    excerpts = perplexities.groupby(level=EXCERPT)
    within = excerpts.var().mean()
    # The variance of the excerpts' means also contains the variance of the seeds, divided by their number.
    between = excerpts.mean().var() - within / excerpts.count().mean()
    return math.sqrt(within), math.sqrt(max(between, 0.0))


def _perplexities(jobs: DataFrame) -> DataFrame:
    """Return the perplexity of the rest of the text, by excerpt and seed (rows) and number of time steps (columns)."""
    runs = jobs[jobs["status"] == "completed"].rename(columns={"data.start": EXCERPT})
    return runs.pivot_table("stream/test/perplexity", [EXCERPT, "seed"], "data.num_steps", sort=False)

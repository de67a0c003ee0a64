"""Chapter 10, continued: How far back do the cells read in novels?"""

import pandas as pd
from matplotlib.figure import Figure
from pandas import DataFrame

from timemachine.exercises import cells, history
from timemachine.study.comparison import estimate
from timemachine.study.drawing import points_by_place
from timemachine.study.figures import panels

SETTINGS = cells.SETTINGS
SETUP = f"""
The models of [exercise cells](../cells/report.md) with one rate and with faster inputs. Reach, and characters that
suffice: as in [exercises 1 and 2](../history/report.md), on the last {history.NUM_TARGETS:,} characters of each novel;
the largest number over the novels. ± is the half-width of the 95% interval."""
CAPTION = (
    "Perplexity after 8 characters from a zero state, divided by the perplexity after the whole text. One point per "
    "novel; bars: means. At 1 the model gains nothing from more than 8 characters."
)
FORMATS = {"parameters": ",.0f", "reach": ".1f"}
EIGHT = "history/perplexity/8"


def table(jobs: DataFrame) -> DataFrame:
    """Return each model's reach, and how many characters suffice."""
    runs = runs_of(jobs)
    is_near = runs[history.PERPLEXITIES].le(history.NEAR * runs[history.WHOLE], axis=0)
    suffice = is_near.set_axis(history.DISTANCES, axis=1).idxmax(axis=1).where(is_near.any(axis=1))
    rows = runs.assign(reach=history.reaches(runs), suffice=suffice).groupby([*cells.GROUP, "cell"], sort=False)
    columns = {name: rows[name].first() for name in ("parameters", "factor", "rate")}
    columns |= {"novels": rows[cells.TEXT].nunique(), "reach": rows["reach"].agg(estimate)}
    return DataFrame(columns | {"characters that suffice": rows["suffice"].max()}).droplevel(["training", "size"])


def figure(jobs: DataFrame) -> Figure:
    """Draw the ratio of the perplexity after eight characters: one panel per size, one series per way."""
    runs = runs_of(jobs)
    sizes, names = sorted(runs["size"].unique()), [*dict.fromkeys(runs["cell"])]
    fig, (row,) = panels(1, len(sizes), sharey=True)
    for axes, size in zip(row, sizes, strict=True):
        group = runs[runs["size"] == size]
        ratios = (group[EIGHT] / group[history.WHOLE]).groupby([group["way"], group["cell"]]).agg(list)
        series = {way: [ratios.get((way, name), []) for name in names] for way in pd.unique(group["way"])}
        points_by_place(axes, names, series)
        axes.get_legend().remove()
        axes.axhline(history.NEAR, color="grey", linewidth=1)
        axes.text(0.02, history.NEAR, "1% above", va="bottom", fontsize="small", color="dimgrey",
                  transform=axes.get_yaxis_transform())  # fmt: skip
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_title(f"{cells.thousands(group['parameters'].max())} parameters")
    fig.legend(*row[-1].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize="small")
    row[0].set_ylabel("perplexity after 8 characters / after all")
    return fig


def runs_of(jobs: DataFrame) -> DataFrame:
    """Return the runs, each once: with a best factor of 1, faster inputs are the run with one rate."""
    return cells.runs_of(jobs).drop_duplicates("job")

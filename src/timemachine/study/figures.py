"""The style of all figures, and the book's figure: both perplexities over epochs, in perplexity.png and LivePlot."""

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from timemachine.config import short

if TYPE_CHECKING:
    from timemachine.run.run import Run

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
WIDE = 100  # largest over smallest perplexity of a linear axis: a diverged run may reach 1e111
HIGHEST = 1e6  # larger perplexities are drawn at this value
STYLES = {"train": ("training", "-", COLOURS[0]), "val": ("validation", "--", COLOURS[1])}


def panels(
    rows: int = 1, columns: int = 1, width: float = 10, height: float = 4, **options: Any
) -> tuple[Figure, NDArray[Any]]:
    """Return a figure of the given size in inches, and its axes (rows, columns).

    One width for all: on a page, their texts then have one size. `options`: of `Figure.subplots`.
    """
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    grid: NDArray[Any] = figure.subplots(rows, columns, squeeze=False, **options)
    for axes in grid.flat:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, grid


def draw_curves(axes: Axes, curves: Mapping[str, Sequence[tuple[float, float]]], end: float = 0) -> None:
    """Draw the perplexities over epochs, on a logarithmic axis if they diverge.

    `curves`: (epoch, perplexity) of `train` and of `val`. `end`: last epoch of the axis, 0 for the curves'.
    """
    for name, points in curves.items():
        label, style, colour = STYLES[name]
        axes.plot([x for x, _ in points], [min(y, HIGHEST) for _, y in points], style, color=colour,
                  label=f"{label} {short(points[-1][1], 2)}" if points else label,
                  marker="." if len(points) < 3 else None)  # fmt: skip
    end = end or max((x for points in curves.values() for x, _ in points), default=1)
    ticks = MaxNLocator(integer=True, steps=[1, 2, 5, 10]).tick_values(0, end)
    axes.set_xticks([*(tick for tick in ticks if tick < 0.95 * end), end])
    values = [y for points in curves.values() for _, y in points if math.isfinite(y)] or [1.0]
    if max(values) > WIDE * min(values):
        axes.set(yscale="log", ylabel=f"perplexity (log scale, at most {HIGHEST:g})")
    else:
        axes.set(ylim=(0, None), ylabel="perplexity")
    axes.set_xlabel("epoch")


class PerplexityFigure(Callback):
    """Write perplexity.png at the end of a run: both perplexities over epochs, as in the book."""

    def log_results(self, run: "Run", trainer: pl.Trainer) -> str:
        """Write the figure, if a perplexity was measured."""
        if figure := perplexity_figure(run.curves, run.summary["corpus"]):
            run.write("perplexity.png", image_of(figure))
        return ""


def perplexity_figure(rows: Sequence[Mapping[str, float]], text: Mapping[str, Any]) -> Figure | None:
    """Return the book's figure, None if no perplexity was measured. `rows`: of metrics.csv; `text`: of summary.json."""
    # Validations within an epoch are drawn at their fraction of it, from the steps at which epochs end.
    ends = {row["epoch"]: row["step"] for row in rows}
    curves: dict[str, list[tuple[float, float]]] = {"train": [], "val": []}
    for row in rows:
        first, last = ends.get(row["epoch"] - 1, 0), ends[row["epoch"]]
        epoch = row["epoch"] - 1 + (row["step"] - first) / max(last - first, 1)  # a fraction for a validation within it
        for name, curve in curves.items():
            if not math.isnan(perplexity := row.get(f"{name}/perplexity", math.nan)):
                curve.append((epoch, perplexity))
    if not any(curves.values()):
        return None
    figure, ((axes,),) = panels()
    draw_curves(axes, curves)
    guessing = text.get("vocabulary", math.inf)
    if guessing < 2 * axes.get_ylim()[1]:  # a line far above the curves would flatten them
        axes.axhline(guessing, color="grey", linestyle=":", label=f"guessing: {guessing:,}")
        axes.set_ylim(None, max(axes.get_ylim()[1], 1.05 * guessing))
    axes.set_title(text.get("title", ""))
    axes.legend()
    return figure


def image_of(figure: Figure, form: str = "png", width: float | None = None) -> bytes:
    """Return a figure as png, svg or pdf, `width` inches wide.

    Its texts are plain: matplotlib would read `$` in a name as a formula.
    """
    if width:
        figure.set_size_inches(width, width * figure.get_figheight() / figure.get_figwidth())
    for text in figure.findobj(Text):
        if isinstance(text, Text) and text.get_text():  # not of ticks that matplotlib writes when it draws, such as 10²
            text.set_parse_math(False)
    image = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box is drawn for the character
        figure.savefig(image, format=form)
    return image.getvalue()

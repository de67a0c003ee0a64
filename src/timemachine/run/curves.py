"""Both perplexities over epochs, as in the book's figure."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from timemachine.run.console import short

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
WIDE = 100  # largest over smallest perplexity of a linear axis: a diverged run may reach 1e111
HIGHEST = 1e6  # larger perplexities are drawn at this value
STYLES = {"train": ("training", "-", COLOURS[0]), "val": ("validation", "--", COLOURS[1])}


def draw_curves(axes: Axes, curves: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    """Draw the perplexities over epochs, on a logarithmic axis if they diverge.

    `curves`: (epoch, perplexity) of `train` and of `val`.
    """
    for name, points in curves.items():
        label, style, colour = STYLES[name]
        axes.plot([x for x, _ in points], [min(y, HIGHEST) for _, y in points], style, color=colour,
                  label=f"{label} {short(points[-1][1], 2)}" if points else label,
                  marker="." if len(points) < 3 else None)  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    values = [y for points in curves.values() for _, y in points if math.isfinite(y)] or [1.0]
    if max(values) > WIDE * min(values):
        axes.set(yscale="log", ylabel=f"perplexity (log scale, at most {HIGHEST:g})")
    else:
        axes.set(ylim=(0, None), ylabel="perplexity")
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)

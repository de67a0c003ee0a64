"""Parts of figures: labels and values at the ends of lines, points by category, plain numbers.

Each figure should be readable without its caption.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import LogFormatter, NullLocator

from timemachine.study.figures import COLOURS

MARKERS = "osD^v<>"
SPREAD = 0.7  # width of a category's points, as a share of the distance between categories


def ordered_colours(count: int) -> list[Any]:
    """Return colours for ordered values, from light to dark."""
    return [colormaps["viridis_r"](0.15 + 0.85 * place / max(count - 1, 1)) for place in range(count)]


def name_line(axes: Axes, name: str, y: float, colour: Any) -> None:
    """Write the name of a horizontal line at its right end."""
    axes.annotate(name, (1, y), (4, 0), ("axes fraction", "data"), "offset points", va="center", color=colour,
                  fontsize="small", annotation_clip=False)  # fmt: skip


def points_by_place(axes: Axes, places: Sequence[str], series: Mapping[str, Sequence[Sequence[float]]]) -> None:
    """Draw each series at the named places on the x axis: one point per value, and a bar at their mean.

    `series`: label -> values at each place. Several series get a legend.
    """
    step = SPREAD / max(len(series), 1)
    for number, (label, values) in enumerate(series.items()):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        for place, ours in enumerate(values):
            middle = place + step * (number - (len(series) - 1) / 2)
            if y := [value for value in ours if math.isfinite(value)]:
                x = middle + step * 0.7 / max(len(y), 2) * (np.arange(len(y)) - (len(y) - 1) / 2)
                axes.plot(x, y, marker, color=colour, markersize=4, markerfacecolor="none", label=label)
                axes.hlines(sum(y) / len(y), middle - step * 0.45, middle + step * 0.45, color=colour, linewidth=2)
                label = ""  # once in the legend
    axes.set_xticks(range(len(places)), places)
    axes.grid(visible=False, axis="x")
    if len(series) > 1 and axes.lines:
        axes.legend(loc="best", fontsize="small")


def plain_numbers(axis: Axis, ticks: Sequence[float] = ()) -> None:
    """Write 6 instead of 6×10⁰ on a logarithmic axis, at the given ticks or at matplotlib's."""
    axis.set_major_formatter(LogFormatter())
    axis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    if ticks:
        axis.set_ticks(list(ticks), [f"{tick:g}" for tick in ticks])
        axis.set_minor_locator(NullLocator())

"""Figures in one style: a light grid, labels and values at the ends of lines, and a colour-blind-safe palette.

Each figure should be readable without its caption.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogFormatter, NullFormatter
from numpy.typing import NDArray

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
MARKERS = "osD^v<>"
LABEL_HEIGHT = 11.0  # smallest distance of two labels, in points
SPREAD = 0.7  # width of a category's points, as a share of the distance between categories

Series = Mapping[str, Mapping[float, float]]  # label -> x -> y


def panels(
    rows: int = 1, columns: int = 1, width: float = 7, height: float = 4, **options: Any
) -> tuple[Figure, NDArray[Any]]:
    """Return a figure of the given size in inches, and its axes (rows, columns)."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    grid: NDArray[Any] = figure.subplots(rows, columns, squeeze=False, **options)
    for axes in grid.flat:
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure, grid


def ordered_colours(count: int) -> list[Any]:
    """Return colours for ordered values, from light to dark."""
    from matplotlib import colormaps

    return [colormaps["viridis_r"](0.15 + 0.85 * place / max(count - 1, 1)) for place in range(count)]


def lines(axes: Axes, series: Series, form: str = "", colours: Sequence[Any] = COLOURS, **style: Any) -> None:
    """Draw one line per label and write the label at its right end, with the last value if `form` is given.

    Skips values that are not finite. Set the scales of the axes first: label positions depend on them.
    """
    ends = []
    for number, (label, points) in enumerate(series.items()):
        drawn = sorted((x, y) for x, y in points.items() if math.isfinite(y) and (y > 0 or axes.get_yscale() != "log"))
        if drawn:
            colour = colours[number % len(colours)]
            axes.plot(*zip(*drawn, strict=True), color=colour, **{"linewidth": 1.5} | style)
            text = f"{label}  {drawn[-1][1]:{form}}" if form else label
            ends.append((*drawn[-1], text, colour))
    label_ends(axes, ends)


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, Any]]) -> None:
    """Write texts to the right of points (x, y, text, colour), moved apart where they would overlap."""
    axes.autoscale_view()
    pixels = 72 / axes.figure.dpi
    floor = axes.bbox.y0 + LABEL_HEIGHT / 2 / pixels
    heights = [max(axes.transData.transform((x, y))[1], floor) * pixels for x, y, _, _ in ends]
    order = sorted(range(len(ends)), key=heights.__getitem__)
    moved = dict(zip(order, _apart([heights[number] for number in order]), strict=True))
    for number, (x, y, text, colour) in enumerate(ends):
        lift = moved[number] - axes.transData.transform((x, y))[1] * pixels
        axes.annotate(text, (x, y), (6, lift), textcoords="offset points", va="center",
                      color=colour, fontsize="small", annotation_clip=False)  # fmt: skip


def _apart(heights: list[float]) -> list[float]:
    """Move ascending heights apart to at least `LABEL_HEIGHT`, by as little as possible."""
    groups: list[list[float]] = []  # touching neighbours: sum of the heights wished for their first one, count
    for height in heights:
        groups.append([height, 1])
        while len(groups) > 1 and groups[-2][0] / groups[-2][1] + groups[-2][1] * LABEL_HEIGHT > (
            groups[-1][0] / groups[-1][1]
        ):
            wished, count = groups.pop()
            groups[-1][0] += wished - count * groups[-1][1] * LABEL_HEIGHT
            groups[-1][1] += count
    return [wished / count + place * LABEL_HEIGHT for wished, count in groups for place in range(int(count))]


def points_by_seed(axes: Axes, places: Sequence[str], series: Mapping[str, Sequence[Sequence[float]]]) -> None:
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


def heat_map(
    axes: Axes, values: Sequence[Sequence[float]], rows: Sequence[str], columns: Sequence[str], form: str = ".2f",
    outlined: Sequence[tuple[int, int]] = (), **limits: float,
) -> None:  # fmt: skip
    """Draw a heat map with its numbers; NaN stays white. `outlined`: (row, column) of framed cells."""
    grid = np.array(values, dtype=float).reshape(len(rows), len(columns))
    image = axes.imshow(np.ma.masked_invalid(grid), cmap="cividis_r", aspect="auto", **limits)  # type: ignore[arg-type]
    for (y, x), value in np.ndenumerate(grid):
        if math.isfinite(value):
            red, green, blue, _ = image.cmap(image.norm(value))
            colour = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
            axes.text(x, y, f"{value:{form}}", ha="center", va="center", fontsize="small", color=colour)
    for y, x in outlined:
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=COLOURS[1], linewidth=2))
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.grid(visible=False)


def plain_numbers(axis: Axis, ticks: Sequence[float] = ()) -> None:
    """Write 6 instead of 6×10⁰ on a logarithmic axis, at the given ticks or at matplotlib's."""
    axis.set_major_formatter(LogFormatter())
    axis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    if ticks:
        axis.set_ticks(list(ticks), [f"{tick:g}" for tick in ticks])
        axis.set_minor_formatter(NullFormatter())

"""What figures of several exercises share: seeds, numbers on a logarithmic axis, the slope of 1."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import LogFormatter

SPREAD = 0.12  # between the places of neighbouring seeds


def plain_numbers(axis: Axis) -> None:
    """Write 6 and not 6×10⁰ on a logarithmic axis that spans less than a few decades, and some numbers between."""
    axis.set_major_formatter(LogFormatter())
    axis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))


def draw_seeds(axes: Axes, values: Sequence[float], place: float, marker: str, **style: Any) -> None:
    """Draw the values of a row at about the same height, each a little below the one before, so that none hides one."""
    heights = [place + SPREAD * (number - (len(values) - 1) / 2) for number in range(len(values))]
    axes.plot(values, heights, marker, markersize=5, markerfacecolor="none", linestyle="none", **style)


def draw_slope(axes: Axes) -> None:
    """Draw the line y = x through two logarithmic axes, and keep their limits."""
    limits = axes.get_xlim(), axes.get_ylim()
    low, high = max(limit[0] for limit in limits), min(limit[1] for limit in limits)
    if low < high:
        axes.plot([low, high], [low, high], "--", color="black", linewidth=1, label="slope 1 (L = 1)")
    axes.set(xlim=limits[0], ylim=limits[1])

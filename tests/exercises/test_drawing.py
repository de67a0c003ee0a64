"""What a reader of a figure needs: plain numbers, seeds that do not hide one another, a slope to compare with."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from timemachine.exercises.drawing import SPREAD, draw_seeds, draw_slope, plain_numbers


def test_a_logarithmic_axis_of_one_decade_has_plain_numbers() -> None:
    figure = Figure()
    axes = figure.subplots()
    axes.plot([1, 2], [5.5, 24.0])
    axes.set_yscale("log")
    plain_numbers(axes.yaxis)
    figure.draw_without_rendering()
    labels = [text.get_text() for text in [*axes.get_yticklabels(), *axes.get_yticklabels(minor=True)]]
    assert {"6", "10", "20"} <= set(labels)
    assert not any("10^" in label or "times" in label for label in labels)


def test_seeds_are_spread_and_the_slope_of_1_keeps_the_limits() -> None:
    axes = Figure().subplots()
    draw_seeds(axes, [7.0, 7.0, 7.0], 2, "o")
    assert np.sort(axes.lines[0].get_ydata()) == pytest.approx([2 - SPREAD, 2, 2 + SPREAD])
    axes.set(xscale="log", yscale="log", xlim=(0.1, 10), ylim=(1e-3, 1e3))
    draw_slope(axes)
    assert np.array_equal(axes.lines[-1].get_xydata(), [[0.1, 0.1], [10.0, 10.0]])
    assert (axes.get_xlim(), axes.get_ylim()) == ((0.1, 10), (1e-3, 1e3))

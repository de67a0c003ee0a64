"""What a reader of a figure needs: series that can be told apart, the lines that a caption speaks of, plain numbers."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from tests.exercises.conftest import clipping_job
from tests.exercises.test_books import READ, job
from timemachine.exercises import clipping, other_authors
from timemachine.exercises.drawing import SPREAD, draw_seeds, draw_slope, plain_numbers
from timemachine.runs.sweep import load_jobs


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


def test_equal_seeds_do_not_hide_one_another() -> None:
    axes = Figure().subplots()
    draw_seeds(axes, [7.0, 7.0, 7.0], 2, "o")
    (line,) = axes.lines
    assert np.sort(line.get_ydata()) == pytest.approx([2 - SPREAD, 2, 2 + SPREAD])
    assert line.get_markerfacecolor() == "none"


def test_the_slope_of_1_is_drawn_within_the_limits() -> None:
    axes = Figure().subplots()
    axes.plot([0.1, 10], [1e-3, 1e3])
    axes.set(xscale="log", yscale="log", xlim=(0.1, 10), ylim=(1e-3, 1e3))
    draw_slope(axes)
    assert np.array_equal(axes.lines[-1].get_xydata(), [[0.1, 0.1], [10.0, 10.0]])
    assert (axes.get_xlim(), axes.get_ylim()) == ((0.1, 10), (1e-3, 1e3))


def test_every_series_of_the_bound_has_a_colour_and_a_sign_of_its_own(tmp_path: Path) -> None:
    for lr in (1.0, 8.0):
        for theta in (None, 1.0, 0.3, 0.1):
            clipping_job(tmp_path, lr, theta, 0, [20.0, 7.0], [0.2, 0.5, 0.4])
    found = clipping.findings(load_jobs(tmp_path)).figures
    for axes in found["bound"].axes:
        *runs, slope = axes.lines
        assert len(runs) == 4 and slope.get_label() == "slope 1 (L = 1)"
        assert len({line.get_color() for line in runs}) == len({line.get_marker() for line in runs}) == 4
        assert runs[0].get_markersize() > runs[1].get_markersize()  # radius 1 does not hide what it is equal to
    for axes in (axes for axes in found["norms"].axes if axes.lines):
        assert axes.lines[0].get_linewidth() > axes.lines[1].get_linewidth()


def test_both_matrices_have_one_scale() -> None:
    jobs = [job(name, 0, READ | {name: 7.0}) for name in ("time_machine", "war_of_the_worlds")]
    figure = other_authors.findings(jobs).figures["matrix"]
    one, other = (axes.images[0] for axes in figure.axes if axes.images)
    assert one.get_clim() == other.get_clim()
    assert len([axes for axes in figure.axes if not axes.images]) == 1  # the bar

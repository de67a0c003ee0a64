"""Figures of any text, and of a run that diverges. Warnings of matplotlib are errors here."""

import math

import pytest
from matplotlib.figure import Figure

from timemachine.study.figures import draw_curves, image_of, perplexity_figure


@pytest.mark.parametrize("title", ["$100 and $200", "時光機器"])
def test_texts_of_figures_are_plain(title: str) -> None:
    rows = [{"epoch": 1, "step": 5, "train/perplexity": 20.0, "val/perplexity": 19.0}]
    figure = perplexity_figure(rows, {"title": title, "vocabulary": 28})
    assert figure and image_of(figure)
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.plot([1, 2], [10, 1e5], label=title)
    axes.set(yscale="log", xlabel=title)
    axes.set_xticks([1, 2], [title, "other"])
    axes.legend()
    image_of(figure)
    assert [tick.get_parse_math() for tick in axes.get_xticklabels()] == [False, False]
    assert any("10^" in tick.get_text() and tick.get_parse_math() for tick in axes.get_yticklabels())


@pytest.mark.parametrize("last", [1e5, math.inf])
def test_figures_of_a_diverged_run(last: float) -> None:
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    draw_curves(axes, {"train": [(1, 27.0), (2, last)], "val": [(1, 30.0), (2, last)]})
    label = axes.legend().get_texts()[0].get_text()
    image_of(figure)
    assert 1e4 < axes.get_ylim()[1] < 1e7 and len(label) < 30


@pytest.mark.parametrize("last", [1, 7, 100])
def test_last_epoch_has_a_tick_and_guessing_is_in_the_picture(last: int) -> None:
    rows = [{"epoch": epoch, "step": epoch, "train/perplexity": 24.2} for epoch in range(1, last + 1)]
    figure = perplexity_figure(rows, {"vocabulary": 28})
    assert figure and image_of(figure)
    ticks = figure.axes[0].get_xticks()
    assert ticks[-1] == last and len(ticks) < 12 and all(tick == int(tick) for tick in ticks)
    assert figure.axes[0].get_ylim()[1] > 28


def test_figure_of_a_run_that_learns() -> None:
    axes = Figure().subplots()
    draw_curves(axes, {"train": [(1, 27.0), (2, 9.0)], "val": []})
    assert axes.get_yscale() == "linear" and axes.get_ylim()[0] == 0

"""The figures of the exercises on clipping and on ReLU, whose runs may all fail."""

import math
from typing import Any

import pytest
from pandas import DataFrame

from timemachine.exercises import clipping, relu
from timemachine.study.comparison import share_interval


def jobs(rates: tuple[float, ...], status: str = "completed") -> DataFrame:
    """Return four runs per rate and radius: with a radius of 1 all learn, without clipping one."""
    return DataFrame(
        {"status": "completed" if clip or start == 0 else status, "data.start": start, "model.lr": rate,
         "model.activation": "relu", "trainer.gradient_clip_val": clip, "largest_grad_norm": 2.0, "clipped_steps": 1,
         "val/perplexity": 7.0 if clip or start == 0 else 12.0 if status == "completed" else math.nan,
         "trigrams/val": 9.0}
        for rate in rates for clip in (None, 1.0) for start in range(4)
    )  # fmt: skip


def test_shares_have_intervals() -> None:
    left: Any = clipping.figure(jobs((1, 4))).axes[0]
    assert [tick.get_text() for tick in left.get_xticklabels()] == ["1", "4"]
    free, clipped = left.containers
    for bars, successes in ((free, 1), (clipped, 4)):
        points, _, (limits,) = bars
        assert [*points.get_ydata()] == [successes / 4] * 2
        low, high = share_interval(successes, 4)
        assert [*limits.get_segments()[0][:, 1]] == pytest.approx([low, high])


def test_runs_that_were_never_clipped_are_drawn_once() -> None:
    runs = jobs((1, 4))
    runs.loc[runs["model.lr"] == 1, "clipped_steps"] = 0
    left: Any = clipping.figure(runs).axes[0]
    free, clipped = ([*bars[0].get_xdata()] for bars in left.containers)
    assert free[0] == 0 and len(free) == 2 and len(clipped) == 1 and clipped[0] > 1


@pytest.mark.parametrize("status", ["completed", "diverged"])
def test_one_rate_draws_each_run(status: str) -> None:
    for axes in (clipping.figure(jobs((4,), status)).axes[0], relu.figure(jobs((4,), status)).axes[0]):
        lines: Any = axes.lines
        free, clipped, _ = lines
        assert sorted(free.get_ydata()) == pytest.approx(sorted([7 / 9] + [12 / 9 if status == "completed" else 3] * 3))
        assert [*clipped.get_ydata()] == pytest.approx([7 / 9] * 4)
        assert ("diverged" in [tick.get_text() for tick in axes.get_yticklabels()]) == (status == "diverged")

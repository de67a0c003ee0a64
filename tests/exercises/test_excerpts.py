"""Exercise 11: the standard deviations between seeds and between excerpts."""

import numpy as np
import pytest
from pandas import DataFrame, MultiIndex, Series

from timemachine.exercises import excerpts


def test_spreads_are_those_of_the_sample() -> None:
    """Many perplexities of 8 + N(0, 0.5²) for each excerpt + N(0, 0.4²) for each seed."""
    generator = np.random.default_rng(0)
    perplexities = 8 + generator.normal(0, 0.5, (2000, 1)) + generator.normal(0, 0.4, (2000, 4))
    index = MultiIndex.from_product([range(2000), range(4)], names=[excerpts.EXCERPT, "seed"])
    assert excerpts.spreads(Series(perplexities.flatten(), index)) == pytest.approx((0.4, 0.5), rel=0.05)


def test_differences_are_paired_by_seed_and_by_excerpt() -> None:
    jobs = DataFrame(
        {"status": "completed", "seed": seed, "data.start": start, "data.num_steps": window,
         "stream/test/perplexity": np.exp(2 + start / 100 + seed / 10 - less)}
        for window, less in ((32, 0), (8, 0.02))
        for start in (0, 50)
        for seed in range(3)
    )  # fmt: skip
    table = excerpts.table(jobs)
    assert [*table.index] == [0, 50, "all"]
    assert [*table["8 vs. 32, nats"]] == ["-0.020 ± 0.000"] * 3
    of_first = np.exp(2 + np.arange(3) / 10)
    assert table["32 time steps"][0].mean == pytest.approx(of_first.mean())
    assert table["deviation"][0] == pytest.approx(of_first.std(ddof=1))

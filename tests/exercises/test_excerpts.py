"""Exercise 11: the standard deviations between seeds and between excerpts."""

import numpy as np
import pytest
from pandas import MultiIndex, Series

from timemachine.exercises import excerpts


def test_spreads_are_those_of_the_sample() -> None:
    """Many perplexities of 8 + N(0, 0.5²) for each excerpt + N(0, 0.4²) for each seed."""
    generator = np.random.default_rng(0)
    perplexities = 8 + generator.normal(0, 0.5, (2000, 1)) + generator.normal(0, 0.4, (2000, 4))
    index = MultiIndex.from_product([range(2000), range(4)], names=[excerpts.EXCERPT, "seed"])
    assert excerpts.spreads(Series(perplexities.flatten(), index)) == pytest.approx((0.4, 0.5), rel=0.05)

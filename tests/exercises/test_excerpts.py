"""Exercise 11: the standard deviations between seeds and between excerpts."""

import numpy as np
import pytest

from timemachine.exercises.excerpts import _spreads


def test_spreads_are_those_of_the_sample() -> None:
    """Many perplexities of 8 + N(0, 0.5²) for each excerpt + N(0, 0.1²) for each seed."""
    generator = np.random.default_rng(0)
    perplexities = 8 + generator.normal(0, 0.5, (2000, 1)) + generator.normal(0, 0.1, (2000, 4))
    nats = {start: dict(enumerate(np.log(row).tolist())) for start, row in enumerate(perplexities)}
    assert _spreads(nats) == pytest.approx((0.1, 0.5), rel=0.05)
    assert all(np.isnan(_spreads({0: {0: 2.0, 1: 2.1}})))

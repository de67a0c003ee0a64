"""How a report writes the numbers of several jobs."""

import math

import pytest

from timemachine.exercises.jobs import mean_sd


@pytest.mark.parametrize(
    ("values", "text"),
    [([], "–"), ([7.25], "7.250"), ([7, 8], "7.50 ± 0.71"), ([7, math.inf], "inf"), ([1e9, 3e9], "2.0e+09 ± 1.4e+09")],
)
def test_seeds_are_one_cell(values: list[float], text: str) -> None:
    assert mean_sd(values) == text

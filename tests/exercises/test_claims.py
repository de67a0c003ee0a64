"""What all reports share: how numbers are written, what may be claimed of two, and what became of a run."""

import math
from pathlib import Path

import pytest

from tests.support.jobs import LETTERS
from timemachine.exercises.claims import UNDECIDED, difference, letters, letters_in_words, lowest, outcome
from timemachine.exercises.jobs import Job, mean_sd


def test_a_difference_is_claimed_beyond_two_standard_errors_of_the_paired_one() -> None:
    one = {0: 7.0, 1: 8.0, 2: 9.0}
    shifted = {seed: value + 0.1 + 0.01 * seed for seed, value in one.items()}  # the seeds' own spread is far larger
    found = difference(one, shifted)
    assert found.mean == pytest.approx(-0.11)
    assert found.error == pytest.approx(0.01 / math.sqrt(3))
    assert found.apart and found.verdict("lower", "higher") == "lower"
    assert difference(shifted, one).verdict("lower", "higher") == "higher"
    noisy = difference(one, {0: 7.3, 1: 7.8, 2: 9.2})
    assert not noisy.apart and noisy.verdict("lower", "higher") == UNDECIDED


def test_nothing_is_claimed_of_one_seed_but_for_what_two_texts_say() -> None:
    assert not difference({0: 1.0}, {0: 9.0}).apart
    assert difference({0: 1.0}, {0: 9.0}, of_texts=0.1).apart
    assert not difference({0: 1.0}, {1: 9.0}).apart  # no seed has both
    assert difference({0: 1.0, 1: 1.0}, {0: 2.0, 1: 2.2}, of_texts=3.0).error == pytest.approx(math.hypot(0.1, 3.0))


def test_all_that_cannot_be_told_apart_from_the_lowest_are_named() -> None:
    groups = {"a": {0: 7.0, 1: 7.2}, "b": {0: 6.5, 1: 6.6}, "c": {0: 6.7, 1: 6.5}, "d": {}, "e": {0: math.inf}}
    assert lowest(groups) == ["b", "c"]
    assert lowest({"one seed": {0: 6.408}, "another": {0: 6.417}, "far": {0: 9.0}}) == ["one seed", "another", "far"]
    assert lowest({}) == []


@pytest.mark.parametrize(
    ("status", "train", "val", "expected"),
    [
        ("diverged", 6.0, 6.0, "diverged"),
        ("completed", 15.41, 17.27, "learnt nothing"),
        ("completed", 17.07, 16.0, "learnt nothing"),
        ("completed", 17.06, 16.65, "learnt"),
    ],
)
def test_a_run_has_one_of_three_outcomes(status: str, train: float, val: float, expected: str) -> None:
    metrics = {"train/perplexity": train, "val/perplexity": val}
    assert outcome(Job(Path(), status, "", {}, metrics, 1.0, "", {}, LETTERS)) == expected


def test_a_run_is_judged_by_the_letters_of_its_own_text() -> None:
    metrics = {"train/perplexity": 15.0, "val/perplexity": 15.0}
    book, other = (
        Job(Path(), "completed", "", {}, metrics, 1.0, "", {}, of_text)
        for of_text in (LETTERS, {"train/perplexity": 14.2, "val/perplexity": 14.9})
    )
    assert (outcome(book), outcome(other)) == ("learnt", "learnt nothing")
    assert letters(book) == {"train/perplexity": 17.06, "val/perplexity": 16.65}  # as in sweeps/reference/relu
    assert letters_in_words([book, other, book], "val/perplexity") == "16.65 or 14.89"


@pytest.mark.parametrize(
    ("values", "text"),
    [([], "–"), ([7.25], "7.250"), ([7, 8], "7.50 ± 0.71"), ([7, math.inf], "inf"), ([1e9, 3e9], "2.0e+09 ± 1.4e+09")],
)
def test_seeds_are_one_cell(values: list[float], text: str) -> None:
    assert mean_sd(values) == text

"""Code that all reports share: significance of differences, tables, and the status of a run."""

import math
from statistics import fmean, stdev

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas import DataFrame

from timemachine.config import Tokens
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.study import trigrams
from timemachine.study.comparison import (
    UNDECIDED,
    Estimate,
    against,
    compare,
    estimate,
    fisher,
    holm,
    p_value,
    share_interval,
    student_t,
    verdicts,
)
from timemachine.study.outcomes import outcomes

NUMBERS = st.floats(-1e3, 1e3).map(lambda value: round(value, 9))  # rounded, so that squares do not underflow


def two_sided(t: float, df: int) -> float:
    """Return the probability of |T| > t by mpmath's incomplete beta function: DLMF 8.17(iii).

    Not by scipy: torchmetrics imports it where it is installed, which makes each program of the tests start later.
    """
    return float(mpmath.betainc(df / 2, 0.5, 0, df / (df + t * t), regularized=True))


@given(st.lists(NUMBERS, min_size=3, max_size=20, unique=True))
def test_estimate_is_students_t_test(values: list[float]) -> None:
    found, error, df = estimate(values), stdev(values) / math.sqrt(len(values)), len(values) - 1
    assert found.mean == pytest.approx(fmean(values), rel=1e-9, abs=1e-9 * max(map(abs, values)))
    assert found.p == pytest.approx(two_sided(abs(found.mean) / error, df), rel=1e-6, abs=1e-12)
    assert two_sided(found.half_width / error, df) == pytest.approx(0.05, rel=1e-9)


@pytest.mark.parametrize("df", [*range(1, 40), 99, 100, 1_799, 17_341, 200_000])
def test_students_t(df: int) -> None:
    for t in (0.0, 1e-6, 0.3, 1.0, 2.0, 4.5, 12.7, 40.0):
        assert p_value(t, df) == pytest.approx(two_sided(t, df), rel=1e-6, abs=1e-10)
    for p in (1e-6, 0.01, 0.05, 0.32, 0.9):
        assert two_sided(student_t(p, df), df) == pytest.approx(p, rel=1e-8, abs=1e-12)  # sums up to 1e5 terms


def test_a_comparison_is_paired() -> None:
    one = {0: 7.0, 1: 8.0, 2: 9.0, 3: 5.0}
    shifted = {seed: value + 0.1 + 0.01 * seed for seed, value in one.items() if seed < 3}  # seeds differ far more
    found = compare(one, shifted)
    assert found.count == 3 and found.mean == pytest.approx(-0.11)
    assert found.half_width == pytest.approx(4.3027 * 0.01 / math.sqrt(3), rel=1e-4)
    assert compare({0: 1.0}, {1: 2.0}).count == 0
    assert compare({0: 1.0, 1: math.inf}, {0: 2.0, 1: 2.0}).count == 1
    assert compare(one, one).p == 1 and compare(one, {key: it + 1 for key, it in one.items()}).p == 0
    cells = verdicts({"shifted": found, "same": compare(one, one)})
    assert cells == {"shifted": ["-0.110 ± 0.025", "lower"], "same": ["+0.000 ± 0.000", UNDECIDED]}


def test_holm_bounds_false_claims() -> None:
    def of(p: float) -> Estimate:
        return Estimate(1.0, 1.0, p, 3)

    assert holm({"a": of(0.01), "b": of(0.04), "c": of(0.03)}) == {"a": True, "b": False, "c": False}
    assert holm({"a": of(0.01), "b": of(0.04), "c": of(0.02)}) == {"a": True, "b": True, "c": True}
    noise = np.random.default_rng(0).normal(size=(400, 8, 5))  # reports of 8 null comparisons, five seeds each
    alarms = sum(any(holm(dict(enumerate(map(estimate, report)))).values()) for report in noise.tolist())
    assert alarms <= 44  # more has a probability below 1e-6 where each report has one of 0.05


def test_difference_from_a_base() -> None:
    scores = DataFrame({"base": [7.0, 8.0, 9.0], "other": [7.1, 8.2, None]}, index=[0, 43, 86])
    differences = against("base", scores)
    assert [*differences] == ["other"] and differences["other"].count == 2
    assert differences["other"].mean == pytest.approx(0.15)
    assert against("missing", scores) == {}


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"), [(0, 3, 0, 0.5615), (10, 10, 0.7225, 1), (81, 263, 0.2553, 0.3662)]
)
def test_share_interval(successes: int, count: int, low: float, high: float) -> None:
    """The last: Newcombe, "Two-sided confidence intervals for the single proportion", 1998, table I, method 3."""
    assert share_interval(successes, count) == pytest.approx((low, high), abs=6e-5)


@pytest.mark.parametrize(
    ("one", "other", "p"),
    [((0, 3), (3, 3), 0.1), ((1, 3), (3, 3), 0.4), ((7, 10), (10, 10), 0.21053), ((3, 4), (1, 4), 0.48571)],
)
def test_fisher(one: tuple[int, int], other: tuple[int, int], p: float) -> None:
    """The last: the tea tasting of Fisher, "The design of experiments", 1935."""
    groups = [[place < successes for place in range(count)] for successes, count in (one, other)]
    assert fisher(*groups) == pytest.approx(p, abs=1e-5) == fisher(*reversed(groups))


def test_outcomes() -> None:
    """A run learns if it completed below the n-grams; its step is unbounded if a norm was not finite.

    A completed run without a validation or n-grams has no outcome.
    """
    columns = ["status", "val/perplexity", "trigrams/val", "trainer.gradient_clip_val", "largest_grad_norm"]
    rows = [
        ("completed", 7.3, 7.85, None, 1.0, True, 4.0),
        ("completed", 7.9, 7.85, None, 2.0, False, 8.0),
        ("diverged", 7.3, 7.85, None, None, False, math.inf),
        ("diverged", None, None, 0.5, 3.0, False, 2.0),
    ]
    unknown = [("completed", None, 7.85, None, 1.0), ("completed", 7.3, None, 0.5, 3.0)]
    jobs = DataFrame([*(row[:5] for row in rows), *unknown], columns=columns).assign(**{"model.lr": 4.0})
    runs = outcomes(jobs).sort_index()
    assert [*runs["learns"]] == [row[5] for row in rows]
    assert [*runs["step"]] == [row[6] for row in rows]
    assert runs["validation"].notna().tolist() == [row[5] for row in rows]
    assert [*runs["clipping"].unique()] == ["none", "θ = 0.5"]


def test_baseline_of_letters_and_tokens() -> None:
    """Letters are compared with trigrams, tokens with the best of three orders."""
    for tokens, orders in ((Tokens.letters, (3,)), (Tokens.bpe, (1, 2, 3))):
        data = TimeMachine(num_steps=8, num_train=500, num_val=300, tokens=tokens, corpus="sample")
        baseline = trigrams.measure(RNNLMScratch(len(data.vocab)), data)["val"]
        assert baseline == min(trigrams.perplexity(data, order) for order in orders)

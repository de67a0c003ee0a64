"""Significance of differences, by the same rule in all reports.

Values are paired by seed, excerpt or block of text. A mean is printed with the half-width of its 95% interval from
Student's t distribution. The common rule of two standard errors would give false positives in 18% of comparisons of
three values and in 12% of comparisons of five. A report with several comparisons applies Holm's correction ("A simple
sequentially rejective multiple test procedure", 1979).
"""

import math
import statistics
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias, TypeVar

import numpy as np
from pandas import DataFrame, Series

Key = TypeVar("Key", bound=Hashable)
LEVEL = 0.05  # significance level of an interval, and of all comparisons of a report together
UNDECIDED = "not significant"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, the half-width of its 95% interval, the p-value of a zero mean, and the number of values.

    `half_width` and `p` are NaN for fewer than two values. A format specification, as in f"{estimate:+.3f}", applies to
    both printed numbers.
    """

    mean: float
    half_width: float
    p: float
    count: int

    def __format__(self, form: str) -> str:
        if not self.count:
            return "–"
        form = form or ".2f"
        form = form if abs(self.mean) < 1e4 else ".1e"
        mean = f"{self.mean:{form.replace('+', '+z')}}"  # z: no -0.0
        return mean if math.isnan(self.half_width) else f"{mean} ± {self.half_width:{form.lstrip('+')}}"


def estimate(values: Iterable[float]) -> Estimate:
    """Return the mean of values and its interval, ignoring NaN."""
    found = [value for value in values if not math.isnan(value)]
    count, mean = len(found), statistics.fmean(found) if found else math.nan
    if count < 2 or not math.isfinite(mean):
        return Estimate(mean, math.nan, math.nan, count)
    error = statistics.stdev(found) / math.sqrt(count)
    half_width = student_t(LEVEL, count - 1) * error
    p = p_value(abs(mean) / error, count - 1) if error else float(mean == 0)
    return Estimate(mean, half_width, p, count)


def p_value(t: float, df: int) -> float:
    """Return how probable it is that |T| > t, for Student's t with `df` degrees of freedom.

    Exact: equations 26.7.3 and 26.7.4 of Abramowitz and Stegun. scipy has it, but where scipy is installed torchmetrics
    imports it too, which takes each program a second.
    """
    angle = math.atan(t / math.sqrt(df))
    ratios = 1 - 1 / np.arange(2 + df % 2, df - 1, 2)  # 1/2, 3/4, … for an even df, 2/3, 4/5, … for an odd one
    within = math.sin(angle) * (1 + float(np.cumprod(ratios * math.cos(angle) ** 2).sum()))
    if df % 2:
        within = 2 / math.pi * (angle + (math.cos(angle) * within if df > 1 else 0))
    return max(1 - within, 0.0)


@cache
def student_t(p: float, df: int) -> float:
    """Return the t whose `p_value` is p, by bisection of its angle."""
    low, high = 0.0, math.pi / 2
    while low < (angle := (low + high) / 2) < high:
        t = math.sqrt(df) * math.tan(angle)
        low, high = (angle, high) if p_value(t, df) > p else (low, angle)
    return t


def share_interval(successes: int, count: int) -> tuple[float, float]:
    """Return the 95% interval of a share of runs: Wilson, "Probable inference, the law of succession, …", 1927."""
    z = statistics.NormalDist().inv_cdf(1 - LEVEL / 2)
    share, divisor = successes / count, 1 + z * z / count
    middle = (share + z * z / (2 * count)) / divisor
    half_width = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / divisor
    return max(middle - half_width, 0.0), min(middle + half_width, 1.0)


def fisher(one: Iterable[bool], other: Iterable[bool]) -> float:
    """Return the p-value of Fisher's exact test, two-sided, that two groups of runs succeed equally often."""
    groups = [*one], [*other]
    sizes, successes = [len(group) for group in groups], sum(map(sum, groups))
    ways = [math.comb(sizes[0], k) * math.comb(sizes[1], successes - k) for k in range(successes + 1)]
    return sum(way for way in ways if way <= ways[sum(groups[0])]) / sum(ways)


Values: TypeAlias = "Mapping[Any, float] | Series[float]"  # by seed, excerpt or block of text


def paired(one: Values, other: Values) -> list[float]:
    """Return `one` minus `other` for each key where both are finite."""
    pairs = [(one[key], other[key]) for key in one.keys() if key in other]  # noqa: SIM118 (a Series iterates its values)
    return [a - b for a, b in pairs if math.isfinite(a) and math.isfinite(b)]


def compare(one: Values, other: Values) -> Estimate:
    """Return the mean of the paired differences `one` minus `other`, with its interval."""
    return estimate(paired(one, other))


def against(base: Hashable, scores: DataFrame) -> dict[Any, Estimate]:
    """Return the differences of all other columns from the column `base`, paired by row; none if it is missing."""
    others = [key for key in scores if key != base and base in scores]
    return {key: compare(scores[key], scores[base]) for key in others}


def at_best(jobs: DataFrame, choices: list[str], by: list[str], score: str) -> DataFrame:
    """Return the completed runs with the choice whose mean score is lowest, for each value of the columns `by`.

    `choices`: columns whose combinations are compared, such as the learning rate. `score`: a column of the validation
    text. Choices with fewer completed runs than another are not considered.
    """
    completed = jobs[jobs["status"] == "completed"]
    scores = completed.groupby([*by, *choices])[score].agg(["count", "mean"]).reset_index(choices)
    # The count first: a rate at which half of the runs diverged would win with the mean of the lucky ones.
    ordered = scores.sort_values(["count", "mean"], ascending=[False, True])
    return completed.merge(ordered.groupby(by)[choices].first().reset_index())


def holm(differences: Mapping[Key, Estimate]) -> dict[Key, bool]:
    """Return which differences are significant after Holm's correction, with a familywise error rate of 5%."""
    claimed = dict.fromkeys(differences, False)
    known = sorted((key for key in differences if not math.isnan(differences[key].p)), key=lambda k: differences[k].p)
    for rank, key in enumerate(known):
        # The first failure ends the test: larger p-values are not significant, even below their own level.
        if differences[key].p > LEVEL / (len(known) - rank):
            break
        claimed[key] = True
    return claimed


def verdicts(differences: Mapping[Key, Estimate], below: str = "lower", above: str = "higher") -> dict[Key, list[str]]:
    """Return two cells for each difference: the number, and `below` or `above` if significant, else `UNDECIDED`."""
    words = {key: (below if differences[key].mean < 0 else above) if claimed else UNDECIDED
             for key, claimed in holm(differences).items()}  # fmt: skip
    return {key: [f"{difference:+.3f}", words[key]] for key, difference in differences.items()}

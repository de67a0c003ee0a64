"""Significance of differences, by the same rule in all reports.

Values are paired by seed, excerpt or block of text. A mean is printed with the half-width of its 95% interval from
Student's t distribution. The common rule of two standard errors would give false positives in 18% of comparisons of
three values and in 12% of comparisons of five. A report with several comparisons applies Holm's correction ("A simple
sequentially rejective multiple test procedure", 1979).
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from timemachine.exercises.groups import Key, grouped, unique
from timemachine.exercises.stream import PARTS
from timemachine.run.jobs import Job

LEVEL = 0.05  # significance level of an interval, and of all comparisons of a report together
UNDECIDED = "not significant"
PAIRED = "Differences are paired by excerpt. Holm's correction applies to the last column, not to the ± intervals."


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


def perplexity(nats: Mapping[Any, float]) -> Estimate:
    """Return the mean of exp(nats) over seeds or excerpts, and its interval."""
    return estimate(map(math.exp, nats.values()))


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


def paired(one: Mapping[Key, float], other: Mapping[Key, float]) -> list[float]:
    """Return `one` minus `other` for each key where both are finite."""
    pairs = [(one[key], other[key]) for key in one if key in other]
    return [a - b for a, b in pairs if math.isfinite(a) and math.isfinite(b)]


def compare(one: Mapping[Key, float], other: Mapping[Key, float]) -> Estimate:
    """Return the mean of the paired differences `one` minus `other`, with its interval."""
    return estimate(paired(one, other))


def against(base: Key, found: Mapping[Key, Mapping[int, float]]) -> dict[Key, Estimate]:
    """Return the differences of all others from `base`; none if it is missing."""
    return {key: compare(values, found[base]) for key, values in found.items() if key != base and base in found}


def holm(differences: Mapping[Key, Estimate]) -> dict[Key, bool]:
    """Return which differences are significant after Holm's correction, with a familywise error rate of 5%."""
    claimed = dict.fromkeys(differences, False)
    known = sorted((key for key in differences if not math.isnan(differences[key].p)), key=lambda k: differences[k].p)
    for rank, key in enumerate(known):
        if differences[key].p > LEVEL / (len(known) - rank):
            break
        claimed[key] = True
    return claimed


def verdicts(
    differences: Mapping[Key, Estimate], below: str = "lower", above: str = "higher", form: str = "+.3f"
) -> dict[Key, list[str]]:
    """Return two cells for each difference: the number, and `below` or `above` if significant, else `UNDECIDED`."""
    words = {key: (below if differences[key].mean < 0 else above) if claimed else UNDECIDED
             for key, claimed in holm(differences).items()}  # fmt: skip
    return {key: [f"{it:{form}}", words[key]] for key, it in differences.items()}


def by_seed(jobs: Iterable[Job], score_of: Callable[[Job], float]) -> dict[int, float]:
    """Return each job's score by seed. Raise SettingError if two jobs with one seed differ in other settings."""
    return {seed: score_of(job) for seed, job in unique(jobs, lambda job: int(job.settings.get("seed", 0))).items()}


def excerpts(jobs: Iterable[Job]) -> dict[int, Job]:
    """Return the run of each excerpt by `data.start`. Raise SettingError if two of an excerpt differ in settings."""
    return unique(jobs, lambda job: int(job.settings["data.start"]))


Values = dict[str, dict[int, float]]  # part of the text -> `data.start` of the excerpt -> a score of its run


def by_part(jobs: Iterable[Job], score_of: Callable[[Job, str], float]) -> Values:
    """Return the score of each excerpt's run on each held-out part of the text."""
    runs = excerpts(jobs)
    return {part: {start: score_of(job, part) for start, job in runs.items()} for part in PARTS}


def nats(job: Job, part: str) -> float:
    """Return the nats per character or token of a part of the text, read as one stream."""
    return math.log(job.stream(part))


def bits_per_byte(job: Job, part: str) -> float:
    """Return the bits per byte of a part of the text, read as one stream."""
    return job.stream(part, "bits_per_byte")


def at_best_rate(jobs: Iterable[Job], score_of: Callable[[Job, str], float]) -> list[Job]:
    """Return the jobs of the learning rate whose score is lowest on validation, on average over excerpts.

    A rate counts only if all of its runs completed; the list is empty if there is no such rate.
    """
    rates = [group for group in grouped(jobs, "model.lr").values() if all(job.status == "completed" for job in group)]
    return min(rates, key=lambda group: estimate(by_part(group, score_of)["val"].values()).mean, default=[])


class Scores(NamedTuple):
    """Scores of one kind of model on the held-out text, read as one stream."""

    perplexity: Values
    bits: Values  # per byte

    @classmethod
    def of(cls, jobs: Iterable[Job]) -> "Scores":
        """Return the scores of the runs of all excerpts."""
        jobs = list(jobs)
        return cls(by_part(jobs, Job.stream), by_part(jobs, bits_per_byte))

    @staticmethod
    def columns() -> list[str]:
        """Return the names of the columns of `cells`: the number of excerpts, and each part in both units."""
        return ["excerpts", *(f"{unit}, {it}" for unit in ("perplexity", "bits per byte") for it in PARTS.values())]

    def cells(self) -> list[str]:
        """Return the cells of a table's row."""
        means = [f"{estimate(self.perplexity[part].values()):.1f}" for part in PARTS]
        return [str(len(self.bits["val"])), *means, *(f"{estimate(self.bits[part].values()):.3f}" for part in PARTS)]

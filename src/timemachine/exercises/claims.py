"""What a report may claim: one rule for comparisons, and three outcomes of a run, for all exercises."""

import math
import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from timemachine.exercises.jobs import Job

APART = 2  # standard errors of a paired difference beyond which a comparison is claimed
UNDECIDED = "cannot be told apart"

BySeed = Mapping[int, float]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean paired difference and its standard error, NaN if that is not known."""

    mean: float
    error: float

    @property
    def apart(self) -> bool:
        """Return whether the difference may be claimed."""
        return abs(self.mean) > APART * self.error  # never if the error is not a number

    def __str__(self) -> str:
        return f"{self.mean:+.2f} ± {self.error:.2f}"

    def verdict(self, below: str, above: str) -> str:
        """Return the word for what the first one is, or that the two cannot be told apart."""
        return UNDECIDED if not self.apart else below if self.mean < 0 else above


def difference(one: BySeed, other: BySeed, of_texts: float | None = None) -> Difference:
    """Return the difference of `one` from `other`, paired by seed; NaN if no seed has both.

    `of_texts`: the standard error that two different texts add, which is all that there is with one seed. Without it
    one seed has no error, and nothing can be claimed of it.
    """
    found = [one[seed] - other[seed] for seed in one if seed in other]
    found = [value for value in found if math.isfinite(value)]
    if not found:
        return Difference(math.nan, math.nan)
    known = len(found) > 1
    of_seeds = statistics.stdev(found) / math.sqrt(len(found)) if known else math.nan if of_texts is None else 0.0
    return Difference(statistics.fmean(found), math.hypot(of_seeds, of_texts or 0.0))


def by_seed(jobs: Iterable[Job], number: Callable[[Job], float]) -> dict[int, float]:
    """Return a number of each job under its seed."""
    return {int(job.settings.get("seed", 0)): number(job) for job in jobs}


def lowest(groups: Mapping[Key, BySeed]) -> list[Key]:
    """Return the key of the lowest mean and all that cannot be told apart from it, in the order of their means."""
    means = {key: statistics.fmean(values.values()) for key, values in groups.items() if values}
    ordered = sorted((key for key, mean in means.items() if math.isfinite(mean)), key=means.__getitem__)
    return [key for key in ordered if key == ordered[0] or not difference(groups[key], groups[ordered[0]]).apart]


def letters(job: Job) -> dict[str, float]:
    """Return the perplexities, `train/perplexity` and `val/perplexity`, above which a run of this text knows no more
    than the frequencies of the training letters: 0.01 less than what these give, which a little noise may.
    """
    return {name: round(perplexity - 0.01, 2) for name, perplexity in job.letters.items()}


def letters_in_words(jobs: Iterable[Job], name: str) -> str:
    """Return `letters` of these runs' texts under the name, as a report has it."""
    return " or ".join(dict.fromkeys(f"{letters(job)[name]:g}" for job in jobs if job.letters)) or "–"


def outcome(job: Job) -> str:
    """Return `diverged` by the project's definition, `learnt nothing` or `learnt`.

    Diverged: not finite, or a final validation perplexity above that of guessing. Learnt nothing: ends above what the
    frequencies of the letters give, on the training or the validation windows.
    """
    if job.status == "diverged":
        return "diverged"
    ends = (job.metrics.get(name, 0.0) <= most for name, most in letters(job).items())
    return "learnt" if all(ends) else "learnt nothing"

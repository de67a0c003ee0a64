"""Outcome of a run: learnt, learnt nothing, or diverged."""

from collections.abc import Iterable

from timemachine.exercises.comparison import by_seed
from timemachine.run.jobs import Job

LR, THETA = "model.lr", "trainer.gradient_clip_val"
VAL, REST = "val/perplexity", "test/perplexity"


def outcome(job: Job) -> str:
    """Return `diverged` (by the run's status), `learnt nothing` or `learnt`.

    A run learnt nothing if it ends above the unigram perplexity, from the letter frequencies of the training text.
    """
    if job.status == "diverged":
        return "diverged"
    ends = (job.metrics.get(name, 0.0) <= most for name, most in job.unigram.items())
    return "learnt" if all(ends) else "learnt nothing"


def learnt(job: Job) -> bool:
    """Return whether a run has learnt something."""
    return outcome(job) == "learnt"


def counted(jobs: Iterable[Job]) -> str:
    """Return "n of m": how many of the runs learnt something."""
    found = [learnt(job) for job in jobs]
    return f"{sum(found)} of {len(found)}"


def last(name: str, jobs: Iterable[Job]) -> dict[int, float]:
    """Return a final metric of the runs that learnt, by seed."""
    return by_seed(filter(learnt, jobs), lambda job: job.number(name))


def definition(jobs: Iterable[Job]) -> str:
    """Define the outcomes for a report, with the unigram perplexities of these runs' texts."""
    most = " or ".join(dict.fromkeys(f"{job.unigram[VAL]:.2f}" for job in jobs if job.unigram)) or "–"
    return (
        f"Learnt nothing: the run ends above {most} on validation, the perplexity of the letter frequencies. Diverged: "
        "not finite, or worse than guessing."
    )


def radius_name(theta: float | None) -> str:
    """Return the name of a clipping radius in reports."""
    return f"θ = {theta:g}" if theta else "no clipping"

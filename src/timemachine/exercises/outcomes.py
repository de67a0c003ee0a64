"""What became of a run: it learnt, learnt nothing, or diverged; and how those of a learning rate and a radius ended."""

from collections.abc import Iterable

from timemachine.exercises.comparison import by_seed
from timemachine.run.jobs import Job

LR, THETA = "model.lr", "trainer.gradient_clip_val"
VAL, REST = "val/perplexity", "test/perplexity"


def outcome(job: Job) -> str:
    """Return `diverged` by the project's definition, `learnt nothing` if the run ends above the perplexity that the
    frequencies of the training letters give, or `learnt`.
    """
    if job.status == "diverged":
        return "diverged"
    ends = (job.metrics.get(name, 0.0) <= most for name, most in job.unigram.items())
    return "learnt" if all(ends) else "learnt nothing"


def learnt(job: Job) -> bool:
    """Return whether a run has learnt something."""
    return outcome(job) == "learnt"


def counted(jobs: Iterable[Job]) -> str:
    """Return how many of the runs learnt something."""
    found = [learnt(job) for job in jobs]
    return f"{sum(found)} of {len(found)}"


def last(name: str, jobs: Iterable[Job]) -> dict[int, float]:
    """Return a final metric of the runs that learnt, by seed."""
    return by_seed(filter(learnt, jobs), lambda job: job.number(name))


def definition(jobs: Iterable[Job]) -> str:
    """Return what a report calls an outcome, with the perplexities that the letters of these runs' texts give."""
    most = " or ".join(dict.fromkeys(f"{job.unigram[VAL]:.2f}" for job in jobs if job.unigram)) or "–"
    return (
        f"Learnt nothing: ends above {most} on validation, what the letters' frequencies give. Diverged: not finite, "
        "or above guessing."
    )


def radius_name(theta: float | None) -> str:
    """Return what a report calls a radius to which gradients are clipped."""
    return f"θ = {theta:g}" if theta else "no clipping"

"""Outcome of a run: whether it learns, that is, predicts better than the book's trigrams."""

import math
from collections.abc import Iterable

from timemachine.exercises.comparison import estimate
from timemachine.exercises.groups import reads_tokens
from timemachine.run.jobs import Job

LR, THETA = "model.lr", "trainer.gradient_clip_val"
VAL, REST = "val/perplexity", "test/perplexity"


def definition(jobs: Iterable[Job]) -> str:
    """Return the sentence that says when a run learns."""
    ngrams = "unigrams, bigrams and trigrams," if reads_tokens(jobs) else "trigrams,"
    return (
        f"A run learns if its last validation perplexity is below the perplexity of the book's {ngrams} which are "
        "counted in the same training text and smoothed by Laplace's rule (`trigrams/val` in summary.csv)."
    )


def learns(job: Job) -> bool:
    """Return whether a run ended with a lower validation perplexity than the n-grams of `probes=[trigrams]`."""
    trigrams = float(job.probes.get("trigrams", {}).get("val", math.nan))
    return job.status == "completed" and job.number(VAL) < trigrams


def largest_norm(job: Job) -> float:
    """Return the largest norm of a gradient before clipping, inf if one was not finite."""
    norm = job.number("largest_grad_norm")
    return math.inf if math.isnan(norm) else norm


def counted(jobs: Iterable[Job]) -> str:
    """Return "n of m": how many of the runs learn."""
    found = [learns(job) for job in jobs]
    return f"{sum(found)} of {len(found)}"


def share(jobs: Iterable[Job]) -> float:
    """Return the share of the runs that learn, NaN without runs."""
    found = [learns(job) for job in jobs]
    return sum(found) / len(found) if found else math.nan


def validation(jobs: Iterable[Job]) -> str:
    """Return the mean validation perplexity of the runs that learn; of tokens, also in bits per byte."""
    found = [job for job in jobs if learns(job)]
    cells = [f"{estimate(job.number(VAL) for job in found)}"]
    if reads_tokens(found):
        cells.append(f"{estimate(job.number('val/bits_per_byte') for job in found):.3f}")
    return ", ".join(cells)


def radius_name(theta: float | None) -> str:
    """Return the name of a clipping radius in reports."""
    return f"θ = {theta:g}" if theta else "no clipping"

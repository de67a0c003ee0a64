"""What became of a run: it learnt, learnt nothing, or diverged."""

from collections.abc import Iterable

from timemachine.exercises.jobs import Job


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

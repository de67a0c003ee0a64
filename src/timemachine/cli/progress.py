"""How far a sweep is: a line for each job that ends, whichever process it ran in."""

import math
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from timemachine.cli.resuming import jobs_of
from timemachine.runs.record import is_resumed
from timemachine.runs.summaries import read_summary
from timemachine.runs.sweep import job_folders
from timemachine.runs.tables import short


class SweepProgress(Callback):
    """Hydra calls it when a sweep begins, and in the process of each job when that ends: the folders say the rest."""

    jobs = 0  # of the sweep; none in a single run
    began = 0  # in seconds, whole as in summary.json

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Count the jobs, and print how many have ended before."""
        self.jobs, self.began = count_jobs(config), int(time.time())
        if is_resumed(config):
            print(f"done   {_count_ended(_summaries(config).values())} of {self.jobs} jobs", flush=True)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Print how the job ended and how far the sweep is; nothing of a job that a resumed sweep skips."""
        if not self.jobs:
            return
        summaries = _summaries(config)
        ours = {number: job for number, job in summaries.items() if _started(job) >= self.began}
        if (job := ours.get(config.hydra.job.num)) is None:
            return
        skipped = _count_ended(job for number, job in summaries.items() if number not in ours)
        running = sum(job["status"] == "running" for job in ours.values())
        ended = len(ours) - running
        count = skipped + ended
        val = float(job["metrics"].get("val/perplexity", math.nan))
        line = f"job {config.hydra.job.num:>3}  {job['status']:9}  val {short(val):>8}  {count} of {self.jobs}"
        if count < self.jobs:
            left = seconds_left(ended, running, self.jobs - skipped, time.time() - self.began)
            line += f", {in_words(left)} left"
        print(line, flush=True)


def count_jobs(config: DictConfig) -> int:
    """Return how many jobs a sweep will have."""
    sweeper = config.hydra.sweeper
    return int(sweeper.n_trials) if "n_trials" in sweeper else len(jobs_of(config))


def seconds_left(ended: int, running: int, jobs: int, elapsed: float) -> float:
    """Estimate how long a sweep still takes at its pace so far; a job under way counts as half done."""
    done = ended + running / 2
    return elapsed * (jobs - done) / done


def in_words(seconds: float) -> str:
    """Return a length of time in words, as exactly as an estimate is."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 90:
        return f"about {minutes} minute{'s' if minutes > 1 else ''}"
    return f"about {seconds / 3600:.1f} hours"


def _summaries(config: DictConfig) -> dict[int, dict[str, Any]]:
    """Return the summaries of the jobs that have begun, by number."""
    found = {}
    for folder in job_folders(Path(config.hydra.sweep.dir)):
        with suppress(OSError, ValueError):  # it is about to write its first
            found[int(folder.name)] = read_summary(folder)
    return found


def _count_ended(summaries: Iterable[dict[str, Any]]) -> int:
    """Return how many jobs a resumed sweep skips."""
    return sum(summary["status"] in ("completed", "diverged") for summary in summaries)


def _started(summary: dict[str, Any]) -> float:
    return datetime.fromisoformat(summary["started"]).timestamp()

"""How far a sweep is: a line for each job that ends, whichever process it ran in."""

import math
import statistics
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from timemachine.runs.record import is_resumed
from timemachine.runs.summaries import read_summary
from timemachine.runs.sweep import job_folders
from timemachine.runs.tables import short


class SweepProgress(Callback):
    """Hydra calls it when a sweep begins, and in the process of each job when that ends: the folders say the rest."""

    jobs = 0  # of the sweep; none in a single run
    began = 0.0

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Count the jobs, and say how many have ended before."""
        self.jobs, self.began = count_jobs(config), time.time()
        if is_resumed(config):
            print(f"done   {len(_done_before(_summaries(config), self.began))} of {self.jobs} jobs", flush=True)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Say what came of the job and how far the sweep is; nothing of a job that a resumed sweep passes over."""
        if not self.jobs:
            return
        summaries = _summaries(config)
        job = summaries.get(config.hydra.job.num)
        if job is None or not _is_of(job, self.began):
            return
        before, after = _done_before(summaries, self.began), time.time()
        ours = [summary for summary in summaries.values() if _is_of(summary, self.began)]
        ages = [after - _started(summary) for summary in ours if summary["status"] == "running"]
        ended = [float(summary.get("seconds", 0)) for summary in ours if summary["status"] != "running"]
        count = len(before) + len(ended)
        left = seconds_left(ended, ages, self.jobs - count - len(ages), after - min(map(_started, ours)))
        val = float(job["metrics"].get("val/perplexity", math.nan))
        outcome = f"job {config.hydra.job.num:>3}  {job['status']:9}  val {short(val):>8}"
        print(f"{outcome}  {count} of {self.jobs}{f', {in_words(left)} left' if count < self.jobs else ''}", flush=True)


def count_jobs(config: DictConfig) -> int:
    """Return how many jobs a sweep will have: as Hydra's own sweeper, or Optuna's, will count them."""
    sweeper = config.hydra.sweeper
    if "n_trials" in sweeper:
        return int(sweeper.n_trials)
    typed = [f"{name}={values}" for name, values in (sweeper.params or {}).items()] + list(config.hydra.overrides.task)
    overrides = OverridesParser.create(GlobalHydra.instance().config_loader()).parse_overrides(typed)
    values = {  # what was typed last counts
        override.get_key_element(): len(list(override.sweep_string_iterator())) if override.is_sweep_override() else 1
        for override in overrides
    }
    return math.prod(values.values())


def seconds_left(ended: list[float], ages: list[float], waiting: int, elapsed: float) -> float:
    """Estimate how long a sweep still takes, at the pace so far, however many jobs run at a time.

    A job under way counts by its age against the mean of those that `ended`; the last ones take their own time.
    """
    mean = max(statistics.fmean(ended), 0.1)
    done = len(ended) + sum(min(age / mean, 1) for age in ages)
    last = mean if waiting else max((mean - age for age in ages), default=0)
    return max(elapsed * (len(ended) + len(ages) + waiting - done) / done, last)


def in_words(seconds: float) -> str:
    """Say a length of time as exactly as an estimate is."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 90:
        return f"about {minutes} minute{'s' if minutes > 1 else ''}"
    return f"about {seconds / 3600:.1f} hours"


def _summaries(config: DictConfig) -> dict[int, dict[str, Any]]:
    """Return the summaries of the jobs that have begun, by number; a damaged one counts as none."""
    found = {}
    for folder in job_folders(Path(config.hydra.sweep.dir)):
        with suppress(OSError, ValueError, KeyError, TypeError):
            summary = read_summary(folder)
            _started(summary), float(summary.get("seconds", 0))  # raises where a stranger's are none
            found[int(folder.name)] = summary
    return found


def _done_before(summaries: dict[int, dict[str, Any]], began: float) -> list[int]:
    """Return the jobs that a resumed sweep passes over."""
    return [
        number
        for number, job in summaries.items()
        if job["status"] in ("completed", "diverged") and not _is_of(job, began)
    ]


def _is_of(summary: dict[str, Any], began: float) -> bool:
    """Whether the job has run in the sweep that began then, and not before that was resumed."""
    return _started(summary) >= int(began)


def _started(summary: dict[str, Any]) -> float:
    return datetime.fromisoformat(summary["started"]).timestamp()

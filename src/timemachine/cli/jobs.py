"""The jobs of a sweep: which there are, whether each can run, how one takes several processes, how far they are.

Private: `BasicSweeper`, of Hydra's, tested with Hydra 1.3.8; pyproject.toml bounds it from above.
"""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from timemachine.cli.resuming import quoted
from timemachine.cli.schema import check_network, resolved, without_hydra
from timemachine.config import REPOSITORY, Model
from timemachine.errors import SettingError
from timemachine.runs.files import read_yaml
from timemachine.runs.processes import SWEEP
from timemachine.runs.record import is_resumed
from timemachine.runs.resuming import begin_anew, is_done
from timemachine.runs.summaries import read_summary
from timemachine.runs.sweep import job_folders, summary_or_failure
from timemachine.runs.tables import short

OF_NO_NETWORK = ("seed=", "data.", "trainer.", "training.", "logger.")  # how settings begin that do not tell


def jobs_of(config: DictConfig) -> list[list[str]]:
    """Return the arguments of each job of a sweep by Hydra's own sweeper."""
    of_files = [f"{name}={values}" for name, values in (config.hydra.sweeper.params or {}).items()]
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    (jobs,) = BasicSweeper.split_arguments(parser.parse_overrides([*of_files, *config.hydra.overrides.task]), None)
    return jobs


def check_jobs(config: DictConfig, exercise: str) -> None:
    """Raise SettingError if a sweep has no jobs, other ones than it began with, or a network that cannot be built.

    To compose a job takes half a second: only one that began with other arguments, or names another cell, is composed.
    """
    is_search = config.hydra.sweeper["_target_"].rpartition(".")[2] != BasicSweeper.__name__
    jobs = [[]] if is_search else jobs_of(config)  # what a search will choose is not known
    if not jobs:
        raise SettingError("glob: matches nothing; type some values, such as -m model.hiddens=16,32")
    loader, seen = GlobalHydra.instance().config_loader(), set()
    for number, overrides in enumerate(jobs):
        folder, before = Path(config.hydra.sweep.dir, str(number)), None
        with suppress(OSError, TypeError, ValueError):  # the job did not begin
            before = _without_resume(read_yaml(folder / ".hydra" / "overrides.yaml"))
        if is_resumed(config) and not is_search and before != _without_resume(overrides):
            is_done(folder, resolved(without_hydra(loader.load_sweep_config(config, overrides))))  # or SettingError
        telling = tuple(override for override in overrides if not override.startswith(OF_NO_NETWORK))
        if telling not in seen and (config.model.cell != "rnn" or any("cell" in override for override in telling)):
            seen.add(telling)
            job = loader.load_sweep_config(config, overrides)
            try:
                check_network(Model(**job.model), list(job.probes))
            except SettingError as error:
                if exercise == "none":
                    raise
                reason = str(error).partition(";")[0]
                raise SettingError(f"exercise={exercise}: {reason}; type it with model.cell=rnn") from error


def _without_resume(overrides: list[str]) -> list[str]:
    return [override for override in overrides if not override.startswith("resume=")]


def run_as_program(folder: Path, overrides: Sequence[str], is_resumed: bool) -> float:
    """Run a job that takes several processes: train.py anew, in the job's folder. Return its validation perplexity.

    Lightning starts each process with the command line of the first, so that each would run the whole sweep; and when
    one dies it kills the first, which would be the sweep. Slurm's variables describe this process, not the job.
    """
    command = [sys.executable, str(REPOSITORY / "train.py"), *_without_resume(list(overrides))]
    command += ["hydra.mode=RUN", f"hydra.run.dir={quoted(str(folder))}"]
    if is_resumed and (folder / "checkpoints" / "last.ckpt").exists():
        command.append(f"resume={folder}")
    elif is_resumed:
        begin_anew(folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    environment[SWEEP] = str(os.getpid())
    # In a process group of its own: otherwise Ctrl-C would reach the job twice, from the terminal and from here.
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, process_group=0) as job:
        try:
            job.wait()
        except (KeyboardInterrupt, SystemExit):
            job.send_signal(signal.SIGINT)
            job.wait()
            raise
    summary = summary_or_failure(folder)
    if summary["status"] == "failed":
        print(f"job {folder.name}: failed: {summary['message']}", file=sys.stderr)
    return float(summary["metrics"].get("val/perplexity", math.inf))


def print_progress(config: DictConfig, jobs: int, began: int, skipped: frozenset[int]) -> None:
    """Print how a job ended, and of how many `jobs` how many have; nothing of one of those `skipped`.

    `began`: the sweep, in seconds. The folders tell, whichever process asks.
    """
    ours = {
        number: summary
        for number, summary in _summaries(config).items()
        if number not in skipped and datetime.fromisoformat(summary["started"]).timestamp() >= began
    }
    if (job := ours.get(config.hydra.job.num)) is None:
        return
    running = sum(summary["status"] == "running" for summary in ours.values())
    ended = len(ours) - running
    count = len(skipped) + ended
    val = short(float(job["metrics"].get("val/perplexity", math.nan)))
    line = f"job {config.hydra.job.num:>3}  {job['status']:9}  val {val:>8}  {count} of {jobs}"
    if count < jobs:
        line += f", {in_words(seconds_left(ended, running, jobs - len(skipped), time.time() - began))} left"
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


def ended_jobs(config: DictConfig) -> frozenset[int]:
    """Return the numbers of the jobs that a sweep that is resumed skips."""
    return frozenset(n for n, job in _summaries(config).items() if job["status"] in ("completed", "diverged"))


def _summaries(config: DictConfig) -> dict[int, dict[str, Any]]:
    """Return the summaries of the jobs that have begun, by number."""
    found = {}
    for folder in job_folders(Path(config.hydra.sweep.dir)):
        with suppress(OSError, ValueError):  # it is about to write its first
            found[int(folder.name)] = read_summary(folder)
    return found

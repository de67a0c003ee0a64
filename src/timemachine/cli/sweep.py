"""A sweep: whether its jobs can run, how far they are, how one takes several processes, and what is left at the end.

Private: `BasicSweeper`, of Hydra's, tested with Hydra 1.3.8; pyproject.toml bounds it from above.
"""

import math
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from timemachine.cli.arguments import quoted
from timemachine.cli.messages import exit_with, remember_folder
from timemachine.cli.schema import checked, resolved, without_hydra
from timemachine.cli.search_path import own_search_path
from timemachine.config import REPOSITORY, Train
from timemachine.errors import SettingError, UserError
from timemachine.exercises.report import module_of, tie_together
from timemachine.runs.files import cannot_write, shown
from timemachine.runs.processes import SWEEP, end_in_order
from timemachine.runs.record import is_resumed, outcome
from timemachine.runs.resuming import begin_anew, is_done
from timemachine.runs.sweep import job_folders, read_summaries, summary_or_failure, sweep_upload_line
from timemachine.runs.tables import short


def begin(config: DictConfig) -> int:
    """Refuse a folder in use, other jobs than those of a sweep that goes on, and a job that breaks a rule.

    Return the number of jobs. From here on SIGTERM and SIGHUP end it in order.
    """
    folder = Path(config.hydra.sweep.dir)
    remember_folder(folder, is_sweep=True)
    subdir = OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"]  # type: ignore[index, call-overload]
    if subdir != "${hydra.job.num}":
        sys.exit(f"error: hydra.sweep.subdir={subdir}: each job has a folder of its number; type it without")
    is_used = any(any(folder.glob(name)) for name in ("summary.json", "*/summary.json"))
    if is_used and not is_resumed(config):
        again = f"resume={folder} with the command that began it, or another folder"
        sys.exit(f"error: hydra.sweep.dir={folder}: there is a run or a sweep already; type {again}")
    try:
        jobs = checked_jobs(config)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        exit_with(error, Train)
    end_in_order()
    print(f"sweep         {shown(folder)}", flush=True)
    if is_resumed(config):
        print(f"done          {_num_done(folder)} of {jobs} jobs", flush=True)
    return jobs


def checked_jobs(config: DictConfig) -> int:
    """Return how many jobs a sweep will have.

    Raise SettingError if it has none, other ones than it began with, ones that an exercise's report would not tell
    apart, or one that breaks a rule. To compose a job takes a tenth of a second: only those are that have a value which
    none before had, have begun, or have another cell than the book's.
    """
    sweeper, loader = config.hydra.sweeper, GlobalHydra.instance().config_loader()
    jobs: list[list[str]] = [[]]
    if not (is_search := "n_trials" in sweeper):  # which chooses its jobs as it goes
        of_files = [f"{name}={values}" for name, values in (sweeper.params or {}).items()]
        parser = OverridesParser.create(loader)
        typed = parser.parse_overrides([*config.hydra.overrides.task])
        _check_axes(_exercise(config), {*(sweeper.params or {}), "seed"}, typed)
        overrides = [*parser.parse_overrides(of_files), *typed]
        (jobs,) = BasicSweeper.split_arguments(overrides, None)
    if not jobs:
        raise SettingError("glob: matches nothing; type some values, such as -m model.hiddens=16,32")
    if is_resumed(config) and not is_search:
        names = (path.parent.name for path in Path(config.hydra.sweep.dir).glob("*/summary.json"))
        if (last := max((int(name) for name in names if name.isdecimal()), default=0)) >= len(jobs):
            what = f"its job {last} is none of this command's"
            raise SettingError(f"resume={config.resume}: {what}; type the command that began it")
    seen: set[str] = set()
    for number, job in enumerate(jobs):
        folder = Path(config.hydra.sweep.dir, str(number))
        has_own_cell = config.model.cell != "rnn" or any(override.startswith("model.cell=") for override in job)
        if folder.exists() or has_own_cell or not seen.issuperset(job):
            seen.update(job)
            settings = without_hydra(loader.load_sweep_config(config, job))
            checked(settings, Train)
            is_done(folder, resolved(settings))  # or SettingError
    return int(sweeper.n_trials) if is_search else len(jobs)


def _check_axes(exercise: str, own: set[str], typed: list[Override]) -> None:
    """Raise SettingError for several values of a setting that an exercise does not vary, if its report needs that."""
    others = [it for it in typed if it.is_sweep_override() and it.key_or_group not in own]
    if others and exercise != "none" and not hasattr(module_of(exercise), "ANY_SETTINGS"):
        varies = f"exercise={exercise} varies {', '.join(sorted(own))} alone"
        raise SettingError(f"{others[0].input_line}: {varies}; type one value of it, a command each")


def _exercise(config: DictConfig) -> str:
    return str(OmegaConf.select(config, "hydra.runtime.choices.exercise", default="none"))


def run_as_program(folder: Path, overrides: Sequence[str], is_resumed: bool) -> float:
    """Run a job that takes several processes: train.py anew, in the job's folder. Return its validation perplexity.

    Lightning starts each process with the command line of the first, so that each would run the whole sweep; and when
    one dies it kills the first, which would be the sweep. Slurm's variables describe this process, not the job.
    """
    of_job = [override for override in overrides if not override.startswith("resume=")]
    command = [sys.executable, str(REPOSITORY / "train.py"), *of_job, *own_search_path(HydraConfig.get())]
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


def print_progress(config: DictConfig, jobs: int) -> None:
    """Print how a job ended, and which of how many `jobs` it is."""
    number = config.hydra.job.num
    job = summary_or_failure(Path(config.hydra.sweep.dir, str(number)))
    val = short(job["metrics"].get("val/perplexity", math.nan))
    print(f"job {number:>3}  {job['status']:9}  val {val:>8}  {number + 1} of {jobs}", flush=True)


def _num_done(folder: Path) -> int:
    return sum(summary_or_failure(job)["status"] in ("completed", "diverged") for job in job_folders(folder))


def end(config: DictConfig) -> None:
    """Write summary.csv and report.md into the sweep's folder; exit with 1 if a job failed."""
    folder = Path(config.hydra.sweep.dir)
    try:
        summaries = read_summaries(folder)
        rows = tie_together(folder, _exercise(config), summaries)
        if line := sweep_upload_line(folder, summaries):
            print(line)
    except Exception as error:  # of which Hydra would make a warning, and exit with 0
        if not (isinstance(error, UserError) or cannot_write(folder, error)):
            traceback.print_exc()  # a mistake in what an exercise makes of its jobs
            sys.exit(1)
        reason = f"{getattr(error, 'filename', None) or folder}: {outcome(error)[1]}"
        sys.exit(f"error: {reason}; when that has been mended type the same command and resume={folder}")
    if failed := [row["job"] for row in rows if row["status"] not in ("completed", "diverged")]:
        reasons = f"their messages are in {shown(folder / 'summary.csv')}"
        sys.exit(f"error: {len(failed)} of {len(rows)} jobs failed (job {', '.join(failed)}); {reasons}")

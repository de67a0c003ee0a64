"""A sweep: check its values, print its progress, run jobs of several processes, write its table and report."""

import math
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from timemachine.cli.arguments import added_search_path, as_typed, quoted
from timemachine.cli.messages import exit_with, no_such_choice, remember_folder
from timemachine.cli.schema import leaves
from timemachine.config import REPOSITORY, Train, check_value
from timemachine.errors import SettingError, UserError
from timemachine.exercises.sweep_report import module_of, write_results
from timemachine.run.console import short
from timemachine.run.files import cannot_write, link, relative_path
from timemachine.run.jobs import job_folders, load_jobs, read_job, upload_line
from timemachine.run.processes import SWEEP, interrupt_on_signals, is_requeued
from timemachine.run.record import objective, status_and_message
from timemachine.weights_and_biases import is_wanted


def begin(config: DictConfig) -> int:
    """Return the number of jobs of a sweep that starts or resumes. From here on, SIGTERM interrupts it.

    Exits with one line if the folder is in use, or if the values are invalid or give fewer jobs than have begun.
    """
    folder = Path(config.hydra.sweep.dir)
    may_have_begun = config.resume is not None or is_requeued()
    remember_folder(folder, is_sweep=True)
    if not may_have_begun and ((folder / "summary.json").exists() or job_folders(folder)):
        again = f"resume={folder} with the command that started it, or another folder"
        sys.exit(f"error: hydra.sweep.dir={folder}: contains a run or a sweep already; use {again}")
    try:
        jobs = num_jobs(config)
        if may_have_begun and (there := len(job_folders(folder))) > jobs:
            raise SettingError(f"resume={config.resume}: has {there} jobs, not {jobs}; use the command that started it")
    except (UserError, HydraException, OmegaConfBaseException) as error:
        exit_with(error, Train)
    interrupt_on_signals()
    print(f"sweep         {link(folder)}", flush=True)
    if may_have_begun:
        print(f"done          {_num_done(folder)} of {jobs} jobs", flush=True)
    return jobs


def num_jobs(config: DictConfig) -> int:
    """Return the number of jobs of a sweep, after checking each typed value on its own.

    Values that break a rule only in combination fail later, in their own job. Raises SettingError, or an error of
    Hydra's, for an invalid value, and for several values of a setting that the exercise does not vary.
    """
    sweeper, loader = config.hydra.sweeper, GlobalHydra.instance().config_loader()
    parser = OverridesParser.create(loader)
    typed = parser.parse_overrides(as_typed(config.hydra.overrides.task))
    is_search, exercise = "n_trials" in sweeper, _exercise(config)
    params: dict[str, Any] = {} if is_search else dict(sweeper.params or {})
    for override in typed:
        _check_values(override, config, loader)
        if not override.is_sweep_override():
            continue
        if override.key_or_group == "exercise":
            raise SettingError(f"{override.input_line}: an exercise is already a sweep; use one exercise per command")
        is_varied = override.key_or_group in {*params, "seed"} or hasattr(module_of(exercise), "ANY_SETTINGS")
        if exercise != "none" and not is_varied:
            varies = f"exercise={exercise} varies only {', '.join(sorted({*params, 'seed'}))}"
            raise SettingError(f"{override.input_line}: {varies}; use one value per command")
        if not (override.is_discrete_sweep() or is_search):
            raise SettingError(f"{override.input_line}: an interval needs a search; use -m hydra/sweeper=optuna")
    if is_search:
        return int(sweeper.n_trials)
    # A typed value replaces the values of the exercise's file.
    overrides = [*parser.parse_overrides([f"{name}={values}" for name, values in params.items()]), *typed]
    by_name = {override.get_key_element(): override for override in overrides}
    return math.prod(len(_values(override)) for override in by_name.values())


def _values(override: Override) -> list[Any]:
    """Return the values of an override; none for an interval, which is only for a search."""
    if not override.is_sweep_override():
        return [override.value()]
    return [*override.sweep_iterator()] if override.is_discrete_sweep() else []


def _check_values(override: Override, config: DictConfig, loader: ConfigLoader) -> None:
    """Raise SettingError, or an error of OmegaConf's, for an invalid value or choice in an override."""
    name, trial, setting = override.key_or_group, config.copy(), dict(leaves(Train)).get(override.key_or_group)
    choices = loader.get_group_options(name, overrides=as_typed(config.hydra.overrides.hydra))
    if not (values := _values(override)) and override.is_discrete_sweep():
        raise SettingError(f"{override.input_line}: matches no value; use values such as model.hiddens=16,32")
    for value in values:
        if choices:
            if isinstance(value, str) and "/" not in value and value not in choices:  # Hydra checks subfolders
                raise SettingError(no_such_choice(name, value, choices))
        elif setting is not None and isinstance(value, str | int | float) and "${" not in str(value):
            OmegaConf.update(trial, name, value)  # converts the value to the setting's type, such as 1 to true
            check_value(setting, OmegaConf.select(trial, name), name)


def _exercise(config: DictConfig) -> str:
    return str(OmegaConf.select(config, "hydra.runtime.choices.exercise", default="none"))


def run_as_program(folder: Path, overrides: Sequence[str], resumes: bool) -> float:
    """Run a job of several processes as a separate train.py, in the job's folder. Return its validation perplexity.

    Lightning starts each process with the command line of the first, so each would run the whole sweep. If a process
    dies, Lightning kills the first, which would be the sweep. Slurm's variables are removed, since they describe this
    process and not the job.
    """
    from timemachine.run.checkpoint import LAST, remove_results  # deferred: takes seconds

    command = [sys.executable, str(REPOSITORY / "train.py")]
    if resumes and (folder / LAST).exists():
        command.append(f"resume={folder}")
    else:
        remove_results(folder)
        command += [override for override in overrides if not override.startswith("resume=")]
        command += added_search_path(HydraConfig.get())
        command += ["hydra.mode=RUN", f"hydra.run.dir={quoted(str(folder))}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    environment[SWEEP] = str(os.getpid())
    # In its own process group: otherwise Ctrl-C would reach the job twice, from the terminal and from here.
    with subprocess.Popen(
        command, cwd=HydraConfig.get().runtime.cwd, stdin=subprocess.DEVNULL, env=environment, process_group=0
    ) as job:
        try:
            job.wait()
        except (KeyboardInterrupt, SystemExit):
            job.send_signal(signal.SIGINT)
            job.wait()
            raise
    ended = read_job(folder)
    return objective({"status": ended.status, "metrics": ended.metrics})


def print_progress(config: DictConfig, jobs: int, messages: set[str]) -> None:
    """Print the status of a job, and its place among `jobs`.

    The message of a failed job is also printed and added to `messages`, unless it is there already.
    """
    number, job = config.hydra.job.num, read_job(Path(config.hydra.runtime.output_dir))
    if job.status == "failed" and str(job.message) not in messages:
        messages.add(str(job.message))
        print(f"job {number}: failed: {job.message}", file=sys.stderr)
    val = short(job.number("val/perplexity"))
    print(f"job {number:>3}  {job.status:9}  val {val:>8}  {number + 1} of {jobs}", flush=True)


def _num_done(folder: Path) -> int:
    return sum(read_job(job).has_ended for job in job_folders(folder))


def end(config: DictConfig) -> None:
    """Write summary.csv and report.md into the sweep's folder; exit with status 1 if a job failed."""
    folder = Path(config.hydra.sweep.dir)
    try:
        jobs = load_jobs(folder)
        write_results(folder, _exercise(config), jobs)
        if (line := upload_line(folder, "/*/wandb")) and is_wanted(as_typed(config.hydra.overrides.task)):
            print(line)
    except Exception as error:  # Hydra would turn it into a warning, and exit with status 0
        if not (isinstance(error, UserError) or cannot_write(folder, error)):
            traceback.print_exc()  # such as a mistake in an exercise's findings
            sys.exit(1)
        reason = f"{getattr(error, 'filename', None) or folder}: {status_and_message(error)[1]}"
        sys.exit(f"error: {reason}; fix this, then repeat the command with resume={folder}")
    if failed := [job.name for job in jobs if not job.has_ended]:
        reasons = f"for their messages see {relative_path(folder / 'summary.csv')}"
        sys.exit(f"error: {len(failed)} of {len(jobs)} jobs failed (job {', '.join(failed)}); {reasons}")

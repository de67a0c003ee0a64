"""A sweep: its progress, its table and its report, as Hydra's callback; and a job of several processes.

Uses the private `JobReturn._return_value` of Hydra (tested with 1.3.8): the public property raises a job's exception.
"""

import atexit
import math
import subprocess
import sys
import time
import traceback
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from timemachine.config import REPOSITORY
from timemachine.errors import SettingError, UserError, one_line
from timemachine.run.console import error_line, print_text, short
from timemachine.run.files import relative_path
from timemachine.run.jobs import load_jobs, read_job
from timemachine.run.program import is_job, override_name, places_of_settings, typed_overlays
from timemachine.run.record import LAST, is_running, objective, read_summary, status_and_message
from timemachine.run.signals import end_orderly
from timemachine.weights_and_biases import upload_line


class Sweep(Callback):
    """Print the status of each job of a sweep; at its end write summary.csv and report.md. Also check `resume=`.

    A job that fails returns inf, and the sweep continues: Hydra would end it without a table. A job whose folder has a
    job with other settings ends the sweep. Hydra turns an exception in a callback into a warning, so errors exit.
    `report`: the module that writes the report, which is imported when it is needed.
    """

    def __init__(self, report: str) -> None:
        self.report = report
        self.again = ""  # how to resume the sweep
        self.num_jobs, self.started = 0, 0.0  # 0 if unknown; the time of the sweep's start
        self.varied: set[str] = set()

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check that a run to resume is there, before Hydra creates a folder of that name."""
        _reject_chdir(config)
        if config.resume is not None:
            try:
                _require_resumable(str(config.resume), Path(config.hydra.run.dir), typed_overlays(config.hydra))
            except SettingError as error:
                sys.exit(error_line(error))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Count the jobs, and print how to resume the sweep."""
        _reject_chdir(config)
        if config.resume is not None:
            rule = "resumes a single run; to resume a sweep, repeat its command with its hydra.sweep.dir"
            sys.exit(error_line(f"resume={config.resume}: {rule}"))
        sweeper = config.hydra.sweeper
        params = {name: f"{name}={values}" for name, values in (sweeper.get("params") or {}).items()}
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())  # which lists the files for `glob`
        parsed = parser.parse_overrides([*params.values(), *config.hydra.overrides.task])
        overrides = {each.get_key_element(): each for each in parsed}  # a typed value replaces the file's
        sweeps = [each for each in overrides.values() if each.is_sweep_override()]
        self.varied = {each.key_or_group for each in sweeps} | {*params}
        if exercise := config.hydra.runtime.choices.get("exercise"):
            try:
                if "recipe" in overrides:
                    _require_runs(str(exercise), config.hydra.runtime.choices.recipe)
                import_module(self.report).require_distinguished(exercise, self.varied - {*params, "seed"})
            except SettingError as error:
                sys.exit(error_line(error))
        # Hydra composes the jobs later; only here the number of jobs can be known before the first one.
        if "n_trials" in sweeper:
            self.num_jobs = int(sweeper.n_trials)
        elif all(each.is_discrete_sweep() for each in sweeps):
            self.num_jobs = math.prod(len(list(each.sweep_iterator())) for each in sweeps)
        count = f"{self.num_jobs} jobs; " if self.num_jobs else ""
        self.again = f"resume with the same command and hydra.sweep.dir={config.hydra.sweep.dir}"
        print(f"sweep  {count}{self.again}", flush=True)
        end_orderly(self._print_how_to_resume)
        self.started = time.time()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Print the status of a job, in the process that ran it, and finish its run in W&B."""
        if not is_job():
            return
        folder, is_child = Path(config.hydra.runtime.output_dir), config.hydra.mode == RunMode.RUN
        error = job_return._return_value if job_return.status == JobStatus.FAILED else None
        job = read_job(folder)
        _finish_wandb(job.status)
        is_of_this_error = error and status_and_message(error)["status"] == job.status
        if error and ((job.has_ended and not is_of_this_error) or is_running(folder)):
            # Rejected: the folder has another job. Printed here, since Hydra 1.4 still calls `on_multirun_end`.
            print(error_line(error), file=sys.stderr, flush=True)
            atexit.unregister(self._print_how_to_resume)
            sys.exit(1)
        # A mistake in code: Hydra would print the first job's traceback only.
        if error and not isinstance(error, UserError):
            traceback.print_exception(error)
        if is_child:  # its parent prints the line
            sys.exit(int(not job.has_ended))
        varied = [each for each in config.hydra.overrides.task if override_name(each) in self.varied]
        message = one_line(error or job.message or "")
        metric = str(config.optimized_metric)
        value = f"{metric} {short(job.metrics.get(metric, math.nan))}" if job.has_ended else message
        of = left = ""
        if self.num_jobs:
            number = config.hydra.job.num + 1
            # Jobs start in this order, so about `number` of them have ended. Hydra checks the settings of all jobs,
            # which takes minutes for a thousand, before it starts the first one.
            first = read_job(Path(config.hydra.sweep.dir, "0")).started
            started = max(self.started, datetime.fromisoformat(first).timestamp() if first else 0)
            minutes = (time.time() - started) / 60 / number * (self.num_jobs - number)
            of, left = f"  {number}/{self.num_jobs}", f"  about {minutes:.0f} min left" if minutes >= 1 else ""
        print_text(f"job {config.hydra.job.num:>3}{of}  {job.status:9}  {' '.join(varied)}  {value}".rstrip() + left)
        if error:
            job_return.status, job_return.return_value = JobStatus.COMPLETED, math.inf

    def _print_how_to_resume(self) -> None:
        print(f"sweep  interrupted; {self.again}", flush=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the table and the report from the jobs' folders; exit with status 1 if a job failed."""
        if not self.started:  # Hydra 1.4 also calls this after a rejection by `on_multirun_start`
            return
        atexit.unregister(self._print_how_to_resume)
        folder, exercise = Path(config.hydra.sweep.dir), str(config.hydra.runtime.choices.get("exercise") or "none")
        try:
            jobs = load_jobs(folder)
            import_module(self.report).write_report(folder, exercise, jobs)
        except SettingError as error:  # jobs that the report cannot compare
            sys.exit(error_line(error))
        except Exception:  # a mistake in a report
            traceback.print_exc()
            sys.exit(1)
        if line := upload_line(folder, "/*/wandb"):
            print(line)
        if failed := [job.name for job in jobs if not job.has_ended]:
            table = relative_path(folder / "summary.csv")
            sys.exit(f"error: {len(failed)} of {len(jobs)} jobs failed (job {', '.join(failed)}): see {table}")


def _reject_chdir(config: DictConfig) -> None:
    """Exit if Hydra is to change into the run's folder, whose files matplotlib and W&B would take for settings."""
    if config.hydra.job.chdir:
        sys.exit(error_line("hydra.job.chdir=true: not supported"))


def _require_runs(exercise: str, recipe: str | None) -> None:
    """Raise SettingError unless there is a file with the runs of an exercise for a recipe that is typed with it."""
    options = GlobalHydra.instance().config_loader().get_group_options(f"exercise/{recipe}") if recipe else [exercise]
    if exercise not in options:
        others = f"recipe={recipe} has runs of {', '.join(options)}" if options else f"leave out recipe={recipe}"
        raise SettingError(f"recipe={recipe}: exercise={exercise} has no runs for this recipe; {others}")


def _require_resumable(run: str, folder: Path, overlays: list[str]) -> None:
    """Raise SettingError unless `resume=run` names a run with a checkpoint, and no typed group would be ignored."""
    if run == "latest" and not folder.exists():
        raise SettingError("resume=latest: no run below outputs/ has a checkpoint and has not ended")
    if run != "latest" and folder.resolve() != Path(run).resolve():
        raise SettingError(f"resume={run}: hydra.run.dir={folder} is another folder; use one of them")
    if overlays:
        rule = "not with resume=, which takes the recorded settings; type single settings, such as trainer.max_epochs"
        raise SettingError(f"{', '.join(overlays)}: {rule}")
    if not (folder / "summary.json").exists():
        raise SettingError(f"resume={run}: not the folder of a run; use the folder that train.py printed")
    try:
        read_summary(folder)
    except SettingError as error:
        raise SettingError(f"resume={run}: {error}") from error
    if not (folder / LAST).exists():
        raise SettingError(f"resume={run}: nothing to resume, since there is no {LAST}; start the run again")


def run_in_child() -> float:
    """Run this job as a child program, `python train.py <its overrides>`; return its objective.

    Lightning starts the further processes of a run with the command line of this program, which is the whole sweep's.
    """
    hydra_cfg = HydraConfig.get()
    folder, overrides = Path(hydra_cfg.runtime.output_dir), hydra_cfg.overrides
    command: list[str] = [sys.executable, str(REPOSITORY / "train.py"), *places_of_settings(hydra_cfg)]
    others = "hydra.mode=", "hydra/launcher=", "hydra.sweep", "hydra.searchpath="
    kept = [each for each in overrides.hydra if not each.startswith(others)]
    # With a job number, the child knows that it is a job; with RUN, that it is not the sweep.
    command += [*overrides.task, *kept, "hydra.mode=RUN", f"hydra.job.num={hydra_cfg.job.num}"]
    command += [f"hydra.run.dir={_quoted(folder)}", f"hydra.sweep.dir={_quoted(hydra_cfg.sweep.dir)}"]
    with subprocess.Popen(command, cwd=hydra_cfg.runtime.cwd, stdin=subprocess.DEVNULL) as child:
        try:
            child.wait()
        except KeyboardInterrupt:  # the child got it, too
            child.wait()
            raise
    job = read_job(folder)
    if child.returncode and job.has_ended:
        sys.exit(1)  # rejected; the child has said so
    if not job.has_ended:
        raise SettingError(job.message or "failed")
    return objective(read_summary(folder))


def _quoted(path: object) -> str:
    """Return a path as a value in Hydra's grammar."""
    return "'{}'".format(str(path).replace("'", "\\'"))


def _finish_wandb(status: str) -> None:
    """Finish the job's run in W&B, if there is one, so that the next job of a sweep begins its own."""
    # Not imported here, since it takes a second and most sweeps do not log to W&B.
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.run.summary["status"] = status
        wandb.finish(exit_code=int(status != "completed"))

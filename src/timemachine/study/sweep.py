"""A sweep: its progress, its table and its report, as Hydra's callback; and a job of several processes.

Uses the private `JobReturn._return_value` of Hydra (tested with 1.3.8): the public property raises a job's exception.
"""

import atexit
import math
import subprocess
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from timemachine.config import REPOSITORY, short
from timemachine.errors import OtherRun, SettingError, UserError, one_line
from timemachine.run.checks import check_classes
from timemachine.run.console import error_line, folder_word, print_text, quoted
from timemachine.run.files import relative_path
from timemachine.run.program import is_job, override_name, places_of_settings, typed_words
from timemachine.run.signals import end_orderly, exit_if_pipe_closed
from timemachine.study.jobs import load_job, load_jobs
from timemachine.weights_and_biases import upload_line


class Sweep(Callback):
    """Print the status of each job of a sweep; at its end write summary.csv and report.md.

    A job that fails returns inf, and the sweep continues: Hydra would end it without a table. A job whose folder has a
    job with other settings ends the sweep. Hydra turns an exception in a callback into a warning, so errors exit.
    `report`: the module that writes the report, which is imported when it is needed.
    """

    def __init__(self, report: str) -> None:
        self.report = report
        self.again = ""  # how to resume the sweep; "" before it has started
        self.num_jobs = 0  # 0 if unknown
        self.varied: set[str] = set()

    @exit_if_pipe_closed()
    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Count the jobs, and print how to resume the sweep."""
        sweeper = config.hydra.sweeper
        params = {name: f"{name}={values}" for name, values in (sweeper.get("params") or {}).items()}
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())  # which lists the files for `glob`
        parsed = parser.parse_overrides([*params.values(), *typed_words(config.hydra)])
        overrides = {each.get_key_element(): each for each in parsed}  # a typed value replaces the file's
        sweeps = [each for each in overrides.values() if each.is_sweep_override()]
        self.varied = {each.key_or_group for each in sweeps} | {*params}
        try:
            if "exercise" in self.varied:
                raise SettingError("exercise: one at a time; start a sweep for each")
            if (exercise := str(config.hydra.runtime.choices.exercise)) != "none":
                if "recipe" in overrides:
                    _require_runs(exercise, config.hydra.runtime.choices.recipe)
                import_module(self.report).require_distinguished(exercise, self.varied - {*params, "seed"})
            if not {"model", "callbacks", "logger"} & self.varied:
                settings = {name: config.get(name) for name in ("model", "callbacks", "logger")}
                check_classes(OmegaConf.to_container(OmegaConf.create(settings), resolve=False))  # type: ignore[arg-type]
        except SettingError as error:
            sys.exit(error_line(error))
        # Hydra composes the jobs later; only here the number of jobs can be known before the first one.
        if "n_trials" in sweeper:
            self.num_jobs = int(sweeper.n_trials)
        elif all(each.is_discrete_sweep() for each in sweeps):
            self.num_jobs = math.prod(len(list(each.sweep_iterator())) for each in sweeps)
        count = f"{self.num_jobs} jobs; " if self.num_jobs else ""
        self.again = f"resume with the same command and {folder_word('hydra.sweep.dir', config.hydra.sweep.dir)}"
        print(f"sweep  {count}{self.again}", flush=True)
        end_orderly(self._print_how_to_resume)

    @exit_if_pipe_closed()
    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Print the status of a job, in the process that ran it, and finish its run in W&B."""
        if not is_job():
            return
        folder, is_child = Path(config.hydra.runtime.output_dir), config.hydra.mode == RunMode.RUN
        error = job_return._return_value if job_return.status == JobStatus.FAILED else None
        if isinstance(error, OtherRun):
            # Printed here, since Hydra 1.4 still calls `on_multirun_end`.
            print(error_line(error), file=sys.stderr, flush=True)
            atexit.unregister(self._print_how_to_resume)
            sys.exit(1)
        run = load_job(folder)
        if error and not (folder / "summary.json").exists():  # the settings cannot be read
            run.summary["message"] = one_line(error)
            run.save()
        _finish_wandb(run.summary["status"])
        # A mistake in code: Hydra would print the first job's traceback only.
        if error and not isinstance(error, UserError):
            traceback.print_exception(error)
        if is_child:  # its parent prints the line
            sys.exit(int(not run.has_ended))
        varied = [each for each in typed_words(config.hydra) if override_name(each) in self.varied]
        metric = str(config.optimized_metric)
        message = one_line(error or run.summary["message"] or "")
        value = f"{metric} {short(run.metrics.get(metric, math.nan))}" if run.has_ended else message
        number = config.hydra.job.num
        of = f"  {number + 1}/{self.num_jobs}" if self.num_jobs else ""
        print_text(f"job {number:>3}{of}  {run.summary['status']:9}  {' '.join(varied)}  {value}".rstrip())
        if error:
            job_return.status, job_return.return_value = JobStatus.COMPLETED, math.inf

    def _print_how_to_resume(self) -> None:
        print(f"sweep  interrupted; {self.again}", flush=True)

    @exit_if_pipe_closed()
    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the table and the report from the jobs' folders; exit with status 1 if a job failed."""
        if not self.again:  # Hydra 1.4 also calls this after a rejection by `on_multirun_start`
            return
        atexit.unregister(self._print_how_to_resume)
        folder, exercise = Path(config.hydra.sweep.dir), str(config.hydra.runtime.choices.get("exercise"))
        try:
            jobs = load_jobs(folder)
            import_module(self.report).write_report(folder, exercise, jobs)
        except KeyboardInterrupt:
            self._print_how_to_resume()
            raise
        except UserError as error:  # jobs that the report cannot compare, or a full disk
            sys.exit(error_line(error))
        except BrokenPipeError:  # the files are written
            raise
        except Exception:  # a mistake in a report
            traceback.print_exc()
            sys.exit(1)
        if line := upload_line(folder, "/*/wandb"):
            print(line)
        if failed := [name for name, run in jobs.items() if not run.has_ended]:
            table = relative_path(folder / "summary.csv")
            sys.exit(f"error: {len(failed)} of {len(jobs)} jobs failed (job {', '.join(failed)}): see {table}")


def _require_runs(exercise: str, recipe: str) -> None:
    """Raise SettingError unless there is a file with the runs of an exercise for a recipe that is typed with it."""
    options = GlobalHydra.instance().config_loader().get_group_options(f"exercise/{recipe}")
    if recipe != "none" and exercise not in options:
        others = f"recipe={recipe} has runs of {', '.join(options)}" if options else f"leave out recipe={recipe}"
        raise SettingError(f"recipe={recipe}: exercise={exercise} has no runs for this recipe; {others}")


def run_in_child() -> float:
    """Run this job as a child program, `python train.py <its overrides>`; return its objective.

    Lightning starts the further processes of a run with the command line of this program, which is the whole sweep's.
    """
    hydra_cfg = HydraConfig.get()
    folder = Path(hydra_cfg.runtime.output_dir)
    command: list[str] = [sys.executable, str(REPOSITORY / "train.py"), *places_of_settings(hydra_cfg)]
    others = "hydra.mode=", "hydra/launcher=", "hydra.sweep", "hydra.searchpath="
    kept = [each for each in hydra_cfg.overrides.hydra if not each.startswith(others)]
    # With a job number, the child knows that it is a job; with RUN, that it is not the sweep.
    command += [*typed_words(hydra_cfg), *kept, "hydra.mode=RUN", f"hydra.job.num={hydra_cfg.job.num}"]
    command += [f"hydra.run.dir={quoted(folder)}", f"hydra.sweep.dir={quoted(hydra_cfg.sweep.dir)}"]
    with subprocess.Popen(command, cwd=hydra_cfg.runtime.cwd, stdin=subprocess.DEVNULL) as child:
        try:
            child.wait()
        except KeyboardInterrupt:  # the child got it, too
            child.wait()
            raise
    job = load_job(folder)
    if child.returncode and job.has_ended:
        sys.exit(1)  # rejected; the child has said so
    if not job.has_ended:
        raise SettingError(job.summary["message"] or "failed")
    job.is_job = True
    return job.objective()


def _finish_wandb(status: str) -> None:
    """Finish the job's run in W&B, if there is one, so that the next job of a sweep begins its own."""
    # Not imported here, since it takes a second and most sweeps do not log to W&B.
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.run.summary["status"] = status
        wandb.finish(exit_code=int(status != "completed"))

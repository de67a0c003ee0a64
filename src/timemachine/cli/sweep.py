"""What Hydra calls before and after a run or a sweep."""

import os
import sys
import traceback
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from timemachine.cli.messages import exit_with, remember_folder
from timemachine.cli.networks import refuse_networks
from timemachine.cli.resuming import is_search, jobs_of, refuse_other_jobs
from timemachine.cli.schema import checked, without_hydra
from timemachine.config import Backward, Train
from timemachine.errors import UserError
from timemachine.exercises.report import write_report
from timemachine.kernels.choice import is_compiled, what_is_missed
from timemachine.runs.files import cannot_write
from timemachine.runs.processes import is_first_process, is_job
from timemachine.runs.record import is_resumed, outcome
from timemachine.runs.sweep import job_folders, print_jobs, sweep_rows, sweep_upload_line, write_table


class SweepReport(Callback):
    """Refuse folders in use before Hydra writes anything; after the jobs of a multirun write its table and report.

    The exit status is 1 if a job failed. Hydra makes a warning of whatever else is raised here.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse settings that break a rule, and a folder that holds a run, unless that run goes on or is a job."""
        folder = config.hydra.run.dir
        try:
            checked(without_hydra(config), Train)
        except (UserError, OmegaConfBaseException) as error:
            exit_with(error, Train)
        remember_folder(folder)
        if is_first_process() and not (is_resumed(config) or is_job()) and os.path.exists(f"{folder}/summary.json"):
            sys.exit(f"error: hydra.run.dir={folder}: there is a run already; type resume={folder}, or another folder")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a folder in use, other jobs than those of a sweep that goes on, and networks that cannot be built."""
        folder = Path(config.hydra.sweep.dir)
        remember_folder(folder, is_sweep=True)
        subdir = OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"]  # type: ignore[index, call-overload]
        if subdir != "${hydra.job.num}":
            sys.exit(f"error: hydra.sweep.subdir={subdir}: each job has a folder of its number; type it without")
        if not is_resumed(config) and _holds_jobs(folder):
            again = f"resume={folder} with the command that began it, or another folder"
            sys.exit(f"error: hydra.sweep.dir={folder}: there is a run or a sweep already; type {again}")
        try:
            if not (is_search(config) or jobs_of(config)):
                sys.exit("error: glob: matches nothing; type some values, such as -m model.hiddens=16,32")
            if is_resumed(config):
                refuse_other_jobs(folder, config)
            refuse_networks(config, _exercise(config))
        except (UserError, HydraException, OmegaConfBaseException) as error:
            exit_with(error, Train)
        print(f"sweep  {folder}", flush=True)
        on_cpu = config.trainer.accelerator in ("auto", "cpu")
        if on_cpu and config.model.cell == "rnn" and config.model.backward is Backward.auto and not is_compiled():
            print(what_is_missed(), flush=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write summary.csv and report.md into the sweep's folder; exit with 1 if a job failed."""
        if sys.exc_info()[0] is not None:
            return  # Hydra 1.4 calls this also after a sweep that was refused or cut short
        folder, exercise = Path(config.hydra.sweep.dir), _exercise(config)
        try:
            if not (rows := sweep_rows(folder)):
                sys.exit(1)
            write_table(rows, folder)
            if exercise == "none":
                print_jobs(rows)
                print(f"table  {folder}/summary.csv")
            write_report(folder, exercise)
            if line := sweep_upload_line(folder):
                print(line)
        except Exception as error:  # of which Hydra would make a warning, and exit with 0
            if not (isinstance(error, UserError) or cannot_write(folder, error)):
                traceback.print_exc()  # a mistake in what an exercise makes of its jobs
                sys.exit(1)
            reason = f"{getattr(error, 'filename', None) or folder}: {outcome(error)[1]}"
            sys.exit(f"error: {reason}; when that has been mended type the same command and resume={folder}")
        if failed := [row["job"] for row in rows if row["status"] not in ("completed", "diverged")]:
            sys.exit(f"error: {len(failed)} of {len(rows)} jobs failed (job {', '.join(failed)})")


def _exercise(config: DictConfig) -> str:
    return str(OmegaConf.select(config, "hydra.runtime.choices.exercise", default="none"))


def _holds_jobs(folder: Path) -> bool:
    if any((folder / name).exists() for name in ("multirun.yaml", "summary.json")):
        return True
    return folder.is_dir() and any((job / "summary.json").exists() for job in job_folders(folder))

"""What Hydra calls before and after a run or a sweep."""

import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from timemachine.cli.messages import exit_with, remember_folder
from timemachine.cli.schema import checked, without_hydra
from timemachine.config import Backward, Train
from timemachine.errors import UserError
from timemachine.kernels import NOT_COMPILED, is_compiled
from timemachine.runs.files import cannot_write
from timemachine.runs.processes import is_first_process, is_job
from timemachine.runs.record import is_resumed, outcome


class SweepReport(Callback):
    """Refuse folders in use before Hydra writes anything; after the jobs of a multirun write its table and report.

    It exits with an error: Hydra makes a warning of whatever else is raised here.
    """

    jobs, began = 0, 0  # of a sweep: how many, and when in seconds, whole as in summary.json
    skipped: frozenset[int] = frozenset()  # jobs that had ended before it was resumed

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse settings that break a rule, and a folder that holds a run, unless that run goes on or is a job."""
        folder = config.hydra.run.dir
        try:
            checked(without_hydra(config), Train)
        except (UserError, OmegaConfBaseException) as error:
            exit_with(error, Train)
        remember_folder(folder)
        is_used = any(os.path.exists(f"{folder}/{name}") for name in ("summary.json", "multirun.yaml"))
        if is_used and is_first_process() and not (is_resumed(config) or is_job()):
            again = f"resume={folder}, or another folder"
            sys.exit(f"error: hydra.run.dir={folder}: there is a run or a sweep already; type {again}")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a folder in use, other jobs than those of a sweep that goes on, and networks that cannot be built."""
        from timemachine.cli.jobs import check_jobs, count_jobs, ended_jobs  # what only a sweep needs

        folder = Path(config.hydra.sweep.dir)
        remember_folder(folder, is_sweep=True)
        subdir = OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"]  # type: ignore[index, call-overload]
        if subdir != "${hydra.job.num}":
            sys.exit(f"error: hydra.sweep.subdir={subdir}: each job has a folder of its number; type it without")
        is_used = any(any(folder.glob(name)) for name in ("multirun.yaml", "summary.json", "*/summary.json"))
        if is_used and not is_resumed(config):
            again = f"resume={folder} with the command that began it, or another folder"
            sys.exit(f"error: hydra.sweep.dir={folder}: there is a run or a sweep already; type {again}")
        try:
            check_jobs(config, _exercise(config))
        except (UserError, HydraException, OmegaConfBaseException) as error:
            exit_with(error, Train)
        print(f"sweep  {folder}", flush=True)
        on_cpu = config.trainer.accelerator in ("auto", "cpu")
        if on_cpu and config.model.cell == "rnn" and config.model.backward is Backward.auto and not is_compiled():
            print(NOT_COMPILED, flush=True)
        self.jobs, self.began = count_jobs(config), int(time.time())
        if is_resumed(config):
            self.skipped = ended_jobs(config)
            print(f"done   {len(self.skipped)} of {self.jobs} jobs", flush=True)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Print how far the sweep is, in whichever process the job ran."""
        if self.jobs:
            from timemachine.cli.jobs import print_progress

            print_progress(config, self.jobs, self.began, self.skipped)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write summary.csv and report.md into the sweep's folder; exit with 1 if a job failed."""
        if sys.exc_info()[0] is not None:
            return  # Hydra 1.4 calls this also after a sweep that was refused or cut short
        from timemachine.exercises.report import write_report
        from timemachine.runs.sweep import print_jobs, sweep_rows, sweep_upload_line, write_table

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

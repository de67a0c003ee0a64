"""What Hydra calls before and after a run or a sweep."""

import os
import sys
import traceback
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from timemachine.cli.messages import exit_with, writes_into
from timemachine.cli.networks import refuse_networks
from timemachine.cli.resuming import refuse_other_jobs
from timemachine.cli.schema import checked
from timemachine.cli.signals import end_in_order
from timemachine.cli.streams import go_on_without_output
from timemachine.config import Train, format_value
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
        """Refuse settings that break a rule, and a folder in which there is a run, but for one that goes on, or that a
        sweep has begun.
        """
        folder = config.hydra.run.dir
        try:
            checked(_of_the_run(config), Train)
        except (UserError, OmegaConfBaseException) as error:
            exit_with(error, Train)
        writes_into(folder)
        if is_first_process() and not (is_resumed(config) or is_job()) and os.path.exists(f"{folder}/summary.json"):
            sys.exit(f"error: hydra.run.dir={folder}: there is a run already; type resume={folder}, or another folder")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Refuse a folder in use; say where the sweep lives, for the time until its first job ends."""
        folder = Path(config.hydra.sweep.dir)
        writes_into(folder, is_sweep=True)
        by_number = OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"]  # type: ignore[index, call-overload]
        if by_number != "${hydra.job.num}":
            sys.exit(f"error: hydra.sweep.subdir={by_number}: each job has a folder of its number; type it without")
        if not is_resumed(config) and (
            any((folder / name).exists() for name in ("multirun.yaml", "summary.json"))
            or (folder.is_dir() and any((job / "summary.json").exists() for job in job_folders(folder)))
        ):
            again = f"resume={folder} with the command that began it, or another folder"
            sys.exit(f"error: hydra.sweep.dir={folder}: there is a run or a sweep already; type {again}")
        exercise = OmegaConf.select(config, "hydra.runtime.choices.exercise", default="none")
        try:
            if is_resumed(config):
                refuse_other_jobs(folder, config)
            refuse_networks(config, exercise)
        except (UserError, HydraException, OmegaConfBaseException) as error:
            exit_with(error, Train)
        go_on_without_output()
        print(f"sweep  {config.hydra.sweep.dir}", flush=True)
        by_default = format_value(config.model.backward) == "auto" and config.trainer.accelerator in ("auto", "cpu")
        by_default = by_default and config.model.cell == "rnn"
        if by_default and not is_compiled():
            print(what_is_missed(), flush=True)
        end_in_order()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write summary.csv and report.md into the sweep's folder; exit with 1 if a job failed."""
        if sys.exc_info()[0] is not None:
            return  # Hydra 1.4 calls this also after a sweep that was refused or cut short
        folder = Path(config.hydra.sweep.dir)
        exercise = OmegaConf.select(config, "hydra.runtime.choices.exercise", default="none")
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
            where = error.filename if isinstance(error, OSError) else None
            reason = f"{where or folder}: {outcome(error)[1]}"
            sys.exit(f"error: {reason}; when that has been mended type the same command and resume={folder}")
        if failed := [row["job"] for row in rows if row["status"] not in ("completed", "diverged")]:
            sys.exit(f"error: {len(failed)} of {len(rows)} jobs failed (job {', '.join(failed)})")


def _of_the_run(config: DictConfig) -> DictConfig:
    """The settings without Hydra's own, as Hydra hands them to the program."""
    settings = config.copy()
    with read_write(settings), open_dict(settings):
        del settings["hydra"]
    return settings

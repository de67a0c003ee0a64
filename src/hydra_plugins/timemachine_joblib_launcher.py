"""`hydra/launcher=joblib`: the jobs of a sweep on the cores of this machine, several at a time.

A sweep that is interrupted or loses a process leaves no job that stays `running`.

Tested with joblib 1.6.0, whose `externals` is not part of its public interface.
"""

import os
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.utils import JobReturn
from hydra.plugins.search_path_plugin import SearchPathPlugin

from hydra_plugins._timemachine_jobs import RunJob, SweepLauncher
from hydra_plugins._timemachine_names import take_name
from timemachine.cli.signals import end_with, ignore_signals
from timemachine.errors import UserError
from timemachine.runs.files import shown
from timemachine.runs.processes import SWEEP, Signalled
from timemachine.runs.record import end_for
from timemachine.runs.sweep import job_folders


@dataclass
class JoblibSettings:
    """Arguments of joblib.Parallel."""

    _target_: str = "hydra_plugins.timemachine_joblib_launcher.JoblibLauncher"
    n_jobs: int = -1  # jobs at a time; -1: as many as there are cores
    verbose: int = 0  # above 0: joblib's messages on progress
    timeout: float | None = None  # seconds that a job may take
    pre_dispatch: Any = "2*n_jobs"  # jobs handed to the processes in advance
    batch_size: Any = "auto"  # jobs handed to a process at once
    temp_folder: str | None = None  # of large arrays that processes share
    max_nbytes: Any = None  # size from which an array is one of those
    mmap_mode: str = "r"


class JoblibName(SearchPathPlugin):
    """The name `joblib`, also where hydra-joblib-launcher is installed: the last registration wins.

    Hydra calls this once it has imported all plugins, in whatever order.
    """

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Register the settings; leave the search path alone."""
        take_name("hydra/launcher", "joblib", JoblibSettings)


class JoblibLauncher(SweepLauncher):
    """Runs each job in one of joblib's processes. What they print goes to the terminal as it comes."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs and return their results in order.

        joblib ends all its processes when one of them is killed or the sweep is interrupted. Raise UserError in the
        first case.
        """
        from joblib import Parallel, delayed
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        run = self.begin(job_overrides, initial_job_idx)
        # joblib takes a process that has grown by 300 MB for one that leaks, and starts another: no job is lost.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        try:
            return Parallel(backend="loky", **self.settings)(  # type: ignore[no-any-return]
                delayed(_run_in_worker)(os.getpid(), run, overrides, number, f"{self.config.hydra.job.name}_{number}")
                for number, overrides in enumerate(job_overrides, initial_job_idx)
            )
        except TerminatedWorkerError as error:
            message = "a process of the sweep was killed from outside"
            numbers = ", ".join(_mark_interrupted(self.folder, message))
            again = f"type the same command and resume={shown(self.folder)}"
            raise UserError(f"{message}, which cut job {numbers} short; {again}") from error
        except (KeyboardInterrupt, Signalled):
            _mark_interrupted(self.folder, "interrupted")
            raise


def _run_in_worker(sweep: int, run: RunJob, overrides: Sequence[str], number: int, job_id: str) -> JobReturn:
    """Run a job as long as the sweep's process is there; joblib needs no other one for n_jobs=1."""
    if os.getpid() != sweep:
        ignore_signals()  # Ctrl-C comes to all processes of a terminal
        os.environ[SWEEP] = str(sweep)  # which speaks for all
        end_with(sweep)
    return run(overrides, number, job_id)


def _mark_interrupted(folder: Path, message: str) -> list[str]:
    """Write into the summaries of the jobs that were under way that they are interrupted. Return their numbers."""
    interrupted = []
    for job in job_folders(folder):
        with suppress(OSError, ValueError):  # it has hardly begun
            if end_for(job, "interrupted", message):
                interrupted.append(job.name)
    return interrupted

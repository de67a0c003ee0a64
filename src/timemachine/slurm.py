"""Sweeps on a cluster: what submitit, Hydra's launcher for Slurm, lacks, so that a sweep outlives a killed job."""

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from submitit import AutoExecutor, SlurmJob
from submitit.core.utils import UncompletedJobError
from submitit.slurm.slurm import SlurmInfoWatcher

from timemachine.config import SettingError
from timemachine.record import Signalled, end_for

_map_array = AutoExecutor.map_array
_results = SlurmJob.results


def mend_launcher() -> None:
    """A job that Slurm ended shall be one that failed. The launcher's own way is to raise, and forget the others."""
    if shutil.which("sbatch") is None:
        sys.exit("error: hydra/launcher: there is no Slurm here; type it where sbatch is, or leave it out")
    AutoExecutor.map_array = _submit  # type: ignore[method-assign, assignment]
    SlurmJob.watcher = SlurmInfoWatcher(delay_s=30)  # between calls of sacct; submitit waits up to ten minutes
    SlurmJob.results = _wait  # type: ignore[method-assign, assignment]


def _submit(executor: AutoExecutor, *arguments: Any) -> Any:
    try:
        return _map_array(executor, *arguments)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise SettingError(f"hydra.launcher: {reason}; type what your cluster asks for") from error


def _wait(job: SlurmJob[JobReturn]) -> list[JobReturn]:
    try:
        return _results(job)
    except UncompletedJobError:
        _write_down(job)
        return [JobReturn(status=JobStatus.COMPLETED, _return_value=math.inf)]
    except (KeyboardInterrupt, Signalled):
        subprocess.run(["scancel", job.job_id.partition("_")[0]], check=False)  # all jobs of the sweep
        raise


def _write_down(job: SlurmJob[JobReturn]) -> None:
    """Say in the job's folder how it ended, unless it has done that itself."""
    submission: Any = job.submission()
    folder = Path(submission.function.config.hydra.sweep.dir, str(submission.args[2]))
    message = f"ended by Slurm: {job.state}; what it printed is in {os.path.relpath(job.paths.stdout)}"
    try:
        if not end_for(folder, "failed", message):
            return
    except (OSError, ValueError):  # it never began
        folder.mkdir(exist_ok=True)
    print(f"job {folder.name}: failed: {message}", file=sys.stderr)

"""`hydra/launcher=slurm`: the jobs of a sweep as jobs of Slurm, submitted by submitit.

A job that Slurm ends is one that failed, and the others finish.

Tested with submitit 1.5.4, of which it uses no private name.
"""

import itertools
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from hydra_plugins._timemachine_jobs import RunJob, SweepLauncher
from timemachine.errors import SettingError
from timemachine.runs.files import shown
from timemachine.runs.processes import Signalled
from timemachine.runs.record import end_for

if TYPE_CHECKING:
    import submitit

POLL = 30  # seconds between two questions to Slurm, for all jobs at once


@dataclass
class SlurmSettings:
    """Settings of submitit's executor: sbatch's options, one CPU and one thread a job."""

    _target_: str = "hydra_plugins.timemachine_slurm_launcher.SlurmLauncher"
    _convert_: str = "all"
    submitit_folder: str = "${hydra.sweep.dir}/.submitit/%j"  # what a job printed
    name: str = "${hydra.job.name}"
    timeout_min: int = 60  # minutes that a job may take
    nodes: int = 1
    tasks_per_node: int = 1
    cpus_per_task: int | None = 1
    gpus_per_node: int | None = None
    mem_gb: int | None = None
    stderr_to_stdout: bool = True  # one log a job
    partition: str | None = None
    qos: str | None = None
    comment: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    gres: str | None = None
    cpus_per_gpu: int | None = None
    gpus_per_task: int | None = None
    mem_per_gpu: str | None = None
    mem_per_cpu: str | None = None
    account: str | None = None
    array_parallelism: int = 256  # jobs at a time
    setup: list[str] | None = field(default_factory=lambda: ["export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK"])
    # Other options of sbatch. The signal comes before the time limit, as at preemption; submitit's own is USR2, which
    # raises in the middle of a training step.
    additional_parameters: dict[str, Any] = field(default_factory=lambda: {"signal": "TERM@30"})


ConfigStore.instance().store(group="hydra/launcher", name="slurm", node=SlurmSettings)


class SlurmLauncher(SweepLauncher):
    """Runs each job as a job of Slurm, those of a sweep as an array."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives for the jobs. Raise SettingError where submitit or Slurm is missing."""
        if find_spec("submitit") is None:
            raise SettingError("hydra/launcher=slurm: is not installed; type pip install -e '.[slurm]'")
        if shutil.which("sbatch") is None:
            raise SettingError("hydra/launcher: there is no Slurm here; type it where sbatch is, or leave it out")
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit the jobs, wait for them and return their results in order.

        Raise SettingError where sbatch refuses them. A signal cancels them, but for SIGHUP.
        """
        import submitit

        run = self.begin(job_overrides, initial_job_idx)
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        parameters = {f"slurm_{name}": value for name, value in self.settings.items() if name != "submitit_folder"}
        executor = submitit.AutoExecutor(self.settings["submitit_folder"], cluster="slurm")
        executor.update_parameters(**parameters)
        try:
            jobs = executor.map_array(_run_on_node, [run] * len(numbers), job_overrides, numbers)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise SettingError(f"hydra.launcher: {reason}; type what your cluster asks for") from error
        try:
            return [_result(job, self.folder / str(number)) for job, number in zip(jobs, numbers, strict=True)]
        except (KeyboardInterrupt, Signalled) as end:
            if isinstance(end, Signalled) and end.name == "SIGHUP":
                raise  # the connection to the login node is gone; the jobs do not need it
            subprocess.run(["scancel", jobs[0].job_id.partition("_")[0]], check=False)  # all jobs of the array
            raise


def _run_on_node(run: RunJob, overrides: Sequence[str], number: int) -> JobReturn:
    import submitit

    return run(overrides, number, submitit.JobEnvironment().job_id)


def _result(job: "submitit.Job[JobReturn]", folder: Path) -> JobReturn:
    """Wait for a job and return its result, or infinity if Slurm ended it: what is raised here would end the sweep."""
    for seconds in itertools.count(1):
        if job.done(force_check=seconds % POLL == 0):  # submitit alone asks Slurm every ten minutes
            break
        time.sleep(1)
    if job.exception() is None:
        return job.results()[0]
    _mark_failed(folder, f"ended by Slurm: {job.state}; what it printed is in {shown(job.paths.stdout)}")
    failed = JobReturn(status=JobStatus.COMPLETED)
    failed.return_value = math.inf
    return failed


def _mark_failed(folder: Path, message: str) -> None:
    """Write the message into the job's summary and on the terminal, unless the job has written how it ended."""
    try:
        if not end_for(folder, "failed", message):
            return
    except (OSError, ValueError):  # it never began
        folder.mkdir(exist_ok=True)
    print(f"job {folder.name}: failed: {message}", file=sys.stderr)

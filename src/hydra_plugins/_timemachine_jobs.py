"""What both launchers share: a job of a sweep in a process other than the sweep's. Hydra looks for no plugin here."""

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, filter_overrides, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from timemachine.cli.characters import write_any_character

log = logging.getLogger(__name__)

RunJob = Callable[[Sequence[str], int, str], JobReturn]  # of overrides, number in the sweep, hydra.job.id


class SweepLauncher(Launcher):
    """A launcher of jobs in other processes. Its settings are those of `hydra.launcher`."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra gives for the jobs."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        self.folder = Path(config.hydra.sweep.dir)

    def begin(self, job_overrides: Sequence[Sequence[str]], first: int) -> RunJob:
        """Log the jobs and make the sweep's folder. Return the function that runs one of them in any process."""
        log.info(f"Launching {len(job_overrides)} jobs into {self.folder}")
        for number, overrides in enumerate(job_overrides, first):
            log.info(f"\t#{number} : {' '.join(filter_overrides(overrides))}")
        self.folder.mkdir(parents=True, exist_ok=True)
        return functools.partial(_run, self.hydra_context, self.task_function, self.config, Singleton.get_state())


def _run(
    hydra_context: HydraContext,
    task_function: TaskFunction,
    config: DictConfig,
    singletons: Any,
    overrides: Sequence[str],
    number: int,
    job_id: str,
) -> JobReturn:
    write_any_character()
    Singleton.set_state(singletons)
    setup_globals()
    job_config = hydra_context.config_loader.load_sweep_config(config, list(overrides))
    with open_dict(job_config):
        job_config.hydra.job.id = job_id
        job_config.hydra.job.num = number
    HydraConfig.instance().set_config(job_config)
    return run_job(
        hydra_context=hydra_context,
        task_function=task_function,
        config=job_config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )

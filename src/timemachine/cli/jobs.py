"""A run, or a job of a sweep: what is done around the task of train.py."""

import math
from collections.abc import Callable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from timemachine.cli import ddp_job
from timemachine.cli.schema import checked, resolved
from timemachine.cli.streams import go_on_without_output, say_that_imports_take_seconds
from timemachine.config import Train
from timemachine.errors import UserError
from timemachine.runs.files import shown
from timemachine.runs.processes import end_with_parent, is_job
from timemachine.runs.record import Record, is_resumed
from timemachine.runs.resuming import is_done


def run_job(cfg: DictConfig, task: Callable[[Train, Record], None]) -> float:
    """Run the task on record. Return the last epoch's validation perplexity, or inf if there was none.

    Raises UserError where a single run ends worse than guessing.
    """
    go_on_without_output()
    job = HydraConfig.get()
    folder, typed, in_sweep = Path(job.runtime.output_dir), job.overrides.task, job.mode == RunMode.MULTIRUN
    if in_sweep and is_done(folder, resolved(cfg)):
        return math.inf
    if is_job():
        end_with_parent()
    elif not in_sweep:
        say_that_imports_take_seconds()
    if in_sweep and ddp_job.takes_processes(cfg.trainer):
        return ddp_job.run(folder, typed, is_resumed(resolved(cfg)))
    group = shown(folder.parent) if in_sweep or is_job() else None
    with Record(folder, resolved(cfg), in_sweep, typed, job.runtime.choices["exercise"], group, is_job()) as run:
        task(checked(cfg, Train), run)
    if run.summary["status"] == "diverged" and run.writes and not in_sweep:
        raise UserError(f"diverged: {run.summary['message']}")
    return float(run.summary["metrics"].get("val/perplexity", math.inf))

"""Sweeps on several cores: what joblib, Hydra's launcher for them, lacks, so that a sweep that is cut short goes on."""

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra_plugins.hydra_joblib_launcher import _core
from joblib import Parallel
from joblib.externals.loky.process_executor import TerminatedWorkerError

from timemachine.command_line import end_with
from timemachine.config import UserError
from timemachine.record import Signalled, end_for
from timemachine.sweep import job_folders


def mend_launcher(folder: Path) -> None:
    """No job of the sweep in the folder shall be left `running`, nor its user with a traceback.

    joblib ends all its processes at once when one of them is killed or the sweep is interrupted, and none when the
    sweep is killed.
    """

    class Jobs(Parallel):  # type: ignore[misc]
        def __call__(self, iterable: Iterable[tuple[Any, ...]]) -> Any:
            again = f"the same command and resume={os.path.relpath(folder)}"
            sweep = os.getpid()
            try:
                return super().__call__((_while_it_lives, (sweep, *job), {}) for job in iterable)
            except TerminatedWorkerError as error:
                message = "a process of the sweep was killed from outside"
                cut = ", ".join(_cut_short(folder, message))
                raise UserError(f"{message}, which cut job {cut} short; type {again}") from error
            except (KeyboardInterrupt, Signalled):
                _cut_short(folder, "interrupted")
                print(f"go on with    {again}", flush=True)
                raise

    _core.Parallel = Jobs


def _cut_short(folder: Path, message: str) -> list[str]:
    """Write down that the jobs that were under way are interrupted; returns their numbers."""
    cut = []
    for job in job_folders(folder):
        with suppress(OSError, ValueError):  # it has hardly begun
            if end_for(job, "interrupted", message):
                cut.append(job.name)
    return cut


def _while_it_lives(sweep: int, job: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Run a job as long as the process of its sweep is there; it is this one where joblib needs no other."""
    if os.getpid() != sweep:
        end_with(sweep)
    return job(*arguments, **named)

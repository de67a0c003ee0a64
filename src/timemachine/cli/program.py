"""The three programs: Hydra's, with checked arguments and one line for a mistake or a signal."""

import functools
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from timemachine.cli.arguments import checked_arguments, hydra_flags
from timemachine.cli.messages import exit_with, say_how_to_go_on
from timemachine.cli.schema import CONF, TARGETS, VERSION, Settings, checked, resolved
from timemachine.cli.streams import Output, go_on_without_output, say_that_imports_take_seconds
from timemachine.config import Train
from timemachine.errors import UserError
from timemachine.runs.files import shown
from timemachine.runs.processes import Signalled, end_with_parent, is_first_process, is_job
from timemachine.runs.record import Record, is_resumed
from timemachine.runs.resuming import is_done


def program(schema: type[Settings]) -> Callable[[Callable[[Settings], None]], Callable[[], None]]:
    """Return a decorator that makes a function of settings the main of the program of that schema."""
    return lambda task: _main(schema, functools.partial(_run, schema=schema, task=task))


def _run(cfg: DictConfig, schema: type[Settings], task: Callable[[Settings], None]) -> None:
    settings = checked(cfg, schema)
    say_that_imports_take_seconds()
    task(settings)


def training_program(task: Callable[[Train, Record], None]) -> Callable[[], None]:
    """Return train.py's main: one run, or a sweep of them, of a function of settings and a run's record."""
    return _main(Train, functools.partial(_run_job, task=task))


def _run_job(cfg: DictConfig, task: Callable[[Train, Record], None]) -> float:
    """Run the task on record. Return the validation perplexity, or inf. Raise UserError where a single run diverged."""
    go_on_without_output()  # a launcher's process has begun without
    job, settings = HydraConfig.get(), resolved(cfg)
    folder, typed, in_sweep = Path(job.runtime.output_dir), job.overrides.task, job.mode == RunMode.MULTIRUN
    if in_sweep and is_done(folder, settings):
        return math.inf
    if is_job():
        end_with_parent()
    elif not in_sweep:
        say_that_imports_take_seconds()
    trainer = cfg.trainer
    if in_sweep and (trainer.strategy != "auto" or trainer.num_nodes != 1 or trainer.devices not in (1, "1")):
        from timemachine.cli.jobs import run_as_program

        return run_as_program(folder, typed, is_resumed(settings))
    group = shown(folder.parent) if in_sweep or is_job() else None
    with Record(folder, settings, in_sweep, typed, job.runtime.choices["exercise"], group, is_job()) as run:
        task(checked(cfg, Train), run)
    if run.summary["status"] == "diverged" and run.writes and not in_sweep:
        raise UserError(f"diverged: {run.summary['message']}")
    return float(run.summary["metrics"].get("val/perplexity", math.inf))


def _main(schema: type, task: Callable[[DictConfig], Any]) -> Callable[[], None]:
    """Return the main of the program that reads conf/<name of the schema>.yaml."""

    @hydra.main(config_path=str(CONF), config_name=schema.__name__.lower(), **VERSION, **TARGETS)
    def hydra_program(cfg: DictConfig) -> Any:
        try:
            return task(cfg)
        except (UserError, OmegaConfBaseException, OSError) as error:  # of which Hydra would make two lines
            exit_with(error, schema)

    def main() -> None:
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, instead of printing a traceback of its own
        go_on_without_output()
        try:
            sys.argv[1:] = checked_arguments(sys.argv[1:], schema)
            flags = hydra_flags(sys.argv[1:], schema)
            if not (is_first_process() or any(a.startswith("hydra.run.dir=") for a in sys.argv)):
                sys.argv += ["hydra.run.dir=.", "hydra.output_subdir=null"]  # srun, torchrun: one folder a run
            if flags.help:
                from timemachine.cli.help import print_help

                print_help(schema, flags.overrides)
            else:
                hydra_program()
        except KeyboardInterrupt:
            _say_the_end(signal.SIGINT)
            sys.exit(130)  # the shell's exit status after Ctrl-C
        except Signalled as end:
            _say_the_end(end.number)
            if end.name == "SIGUSR1" and "SLURM_JOB_ID" in os.environ and is_first_process():
                subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=False)
            raise
        except Exception as error:
            exit_with(error, schema)
        sys.stdout.flush()
        if Output.lost and schema is not Train:  # which does nothing but print
            sys.exit(1)

    return main


def _say_the_end(number: int) -> None:
    """Print which signal ended the program, and how to go on. A job of a sweep leaves that to the sweep."""
    say_how_to_go_on()
    if not is_job():
        print("interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}", file=sys.stderr)

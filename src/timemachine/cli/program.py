"""The three programs: Hydra's, with checked arguments, signals that are obeyed, and one line for a mistake."""

import functools
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from timemachine.cli.arguments import checked_arguments
from timemachine.cli.characters import write_any_character
from timemachine.cli.flags import hydra_flags
from timemachine.cli.help import print_help
from timemachine.cli.jobs import run_job
from timemachine.cli.launchers import describe_launcher_error
from timemachine.cli.messages import exit_with, say_how_to_go_on
from timemachine.cli.schema import CONF, TARGETS, VERSION, Settings, checked
from timemachine.cli.signals import INTERRUPTED, end_in_order, how_it_ended, obey_signals
from timemachine.cli.streams import guard_streams, say_that_imports_take_seconds
from timemachine.config import Train
from timemachine.errors import UserError
from timemachine.runs.processes import Signalled, is_first_process
from timemachine.runs.record import Record


def training_program(task: Callable[[Train, Record], None]) -> Callable[[], None]:
    """Make a function of settings and a run's record the program train.py: one run, or a sweep of them."""
    return _program(Train)(functools.partial(run_job, task=task))


def program(schema: type[Settings]) -> Callable[[Callable[[Settings], None]], Callable[[], None]]:
    """Make a function of settings the program of that schema's name."""

    def decorate(task: Callable[[Settings], None]) -> Callable[[], None]:
        def run(cfg: DictConfig) -> None:
            settings = checked(cfg, schema)
            say_that_imports_take_seconds()
            task(settings)

        return _program(schema)(run)

    return decorate


def _program(schema: type) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make a function of a configuration the Hydra program of conf/<name of the schema>.yaml.

    It ends with one line on stderr and exit status 1 where the user has to change something.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @hydra.main(config_path=str(CONF), config_name=schema.__name__.lower(), **VERSION, **TARGETS)
        def hydra_program(cfg: DictConfig) -> Any:
            end_in_order()
            try:
                return task(cfg)
            # Here and not in main, because Hydra would add a line of its own.
            except (UserError, OmegaConfBaseException, OSError) as error:
                exit_with(error, schema)

        def main() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, instead of printing a traceback of its own
            logging.raiseExceptions = False  # a full disk is told once, not at each line that a library logs
            write_any_character()
            guard_streams()
            obey_signals()
            try:
                sys.argv[1:] = checked_arguments(sys.argv[1:], schema)
                flags, _ = hydra_flags(sys.argv[1:])
                if flags.help:
                    print_help(schema, flags.overrides)
                    return
                if not (is_first_process() or any(a.startswith("hydra.run.dir=") for a in sys.argv)):
                    sys.argv += ["hydra.run.dir=.", "hydra.output_subdir=null"]  # srun, torchrun: one folder a run
                hydra_program()
                sys.stdout.flush()
            except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
                exit_with(error, schema)
            except KeyboardInterrupt:
                say_how_to_go_on()
                print(how_it_ended(signal.SIGINT), file=sys.stderr)
                sys.exit(INTERRUPTED)
            except Signalled as end:
                say_how_to_go_on()
                print(how_it_ended(end.number), file=sys.stderr)
                if end.name == "SIGUSR1" and "SLURM_JOB_ID" in os.environ and is_first_process():
                    subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=False)
                raise
            except Exception as error:
                if (reason := describe_launcher_error(error)) is None:
                    raise
                say_how_to_go_on()
                sys.exit(f"error: {reason}")

        return main

    return decorate

"""The main of each program: arguments -> Hydra's configuration -> checked settings -> a task, or a one-line error."""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from timemachine.cli.arguments import as_typed, checked_arguments
from timemachine.cli.messages import exit_with, print_how_to_resume, remember_folder
from timemachine.cli.schema import CONF, TARGETS, VERSION, Settings, resolved
from timemachine.config import REPOSITORY, Train, from_dict, to_dict
from timemachine.errors import SettingError, UserError
from timemachine.run.files import relative_path, shown_from
from timemachine.run.processes import end_with_parent, interrupt_on_signals, is_first_process, is_job, is_requeued
from timemachine.run.record import EXPORT, Record, Role, is_running, objective, read_summary


def program(schema: type[Settings]) -> Callable[[Callable[[Settings], None]], Callable[[], None]]:
    """Return a decorator that turns a function of checked settings into the main of a program."""

    def decorate(task: Callable[[Settings], None]) -> Callable[[], None]:
        return functools.partial(_main, schema, lambda cfg: task(from_dict(schema, resolved(cfg))))

    return decorate


def training_program(task: Callable[[Train, Record], None]) -> Callable[[], None]:
    """Turn a function of checked settings and a run's record into the main of train.py: one run, or a sweep of runs."""
    return functools.partial(_main, Train, functools.partial(_train, task=task))


def _main(schema: type, task: Callable[[DictConfig], Any]) -> None:
    """Run a task on the configuration that Hydra composes from conf/<name of the schema>.yaml and the command line."""

    @hydra.main(config_path=str(CONF), config_name=schema.__name__.lower(), **VERSION, **TARGETS)
    def hydra_program(cfg: DictConfig) -> Any:
        try:
            with shown_from(HydraConfig.get().runtime.cwd):  # Hydra may have changed the working directory
                return task(cfg)
        except (UserError, OmegaConfBaseException, OSError) as error:  # here, since Hydra would print two lines
            exit_with(error, schema)

    if sys.platform == "win32":
        sys.exit("error: Windows is not supported; use WSL, or the classes as in book.ipynb")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # lets Hydra raise exceptions instead of printing tracebacks
    try:
        arguments = checked_arguments(sys.argv[1:], schema)
        if any(argument.startswith("resume=") for argument in arguments):
            from timemachine.cli.resume import arguments_to_resume

            arguments = arguments_to_resume(arguments)
        if not (is_first_process() or any(argument.startswith("hydra.run.dir=") for argument in arguments)):
            # Under srun or torchrun, each process would otherwise create a folder named after its own start.
            arguments += ["hydra.run.dir=.", "hydra.output_subdir=null"]
        if "--help" in arguments:
            from timemachine.cli.help import print_help

            print_help(schema, everything="all" in arguments)
        else:
            sys.argv[1:] = arguments
            hydra_program()
    except KeyboardInterrupt:
        print_how_to_resume()
        if not is_job():  # the sweep prints it once for all its jobs
            print("interrupted", file=sys.stderr)
        sys.exit(130)  # the shell's exit status after Ctrl-C
    except Exception as error:
        exit_with(error, schema)


def _train(cfg: DictConfig, task: Callable[[Train, Record], None]) -> float:
    """Run the task with a record. Return the objective. Raise UserError if a single run has diverged."""
    hydra_cfg = HydraConfig.get()
    folder, typed = Path(hydra_cfg.runtime.output_dir), as_typed(hydra_cfg.overrides.task)
    in_sweep = hydra_cfg.mode == RunMode.MULTIRUN
    settings = _settings(cfg, folder, typed, in_sweep)
    if not in_sweep and is_first_process():  # a sweep has done so in `sweep.begin`
        interrupt_on_signals()
    if is_job() or not is_first_process():
        end_with_parent()
    if str(REPOSITORY) not in sys.path:  # for a user's classes next to train.py, which a launcher's process lacks
        sys.path.insert(0, str(REPOSITORY))
    if in_sweep:
        from timemachine.run.jobs import is_done

        if is_done(folder, settings):
            return objective(read_summary(folder))
        # A job that is or may be of several processes (devices=auto takes all GPUs): Lightning would start each of them
        # with the command line of the whole sweep.
        if cfg.trainer.strategy != "auto" or cfg.trainer.num_nodes != 1 or cfg.trainer.devices not in (1, "1"):
            from timemachine.cli.sweep import run_as_program

            return run_as_program(folder, typed, settings["resume"] is not None)
    role, exercise = _role(hydra_cfg, folder, in_sweep), hydra_cfg.runtime.choices["exercise"]
    with Record(folder, settings, role, typed, exercise) as run:
        _refuse_replaced_windows(hydra_cfg, cfg)
        task(from_dict(Train, settings), run)
    if run.summary["status"] == "diverged" and run.role.prints:
        raise UserError(f"diverged: {run.summary['message']}")
    return objective(run.summary)


def _settings(cfg: DictConfig, folder: Path, typed: list[str], in_sweep: bool) -> dict[str, Any]:
    """Return the unchecked settings of a run; for a resumed run, the recorded ones overridden by the typed ones."""
    settings = to_dict(Train()) | resolved(cfg)  # `cfg` lacks groups that were deleted, such as by ~model
    if settings["resume"] is not None and not in_sweep:
        from timemachine.cli.resume import settings_to_resume

        settings = settings_to_resume(settings, typed)
    if settings["resume"] is None and is_requeued():  # Slurm repeats the command, without resume=
        settings["resume"] = str(folder)
    return settings


def _role(hydra_cfg: Any, folder: Path, in_sweep: bool) -> Role:
    """Return the permissions of this process for the run in a folder."""
    sweep = None
    if in_sweep:
        sweep = relative_path(Path(hydra_cfg.runtime.cwd, hydra_cfg.sweep.dir))
    elif is_job():
        sweep = relative_path(folder.parent)
    return Role(writes=is_first_process(), prints=is_first_process() and sweep is None, sweep=sweep)


def _refuse_replaced_windows(hydra_cfg: Any, cfg: DictConfig) -> None:
    """Raise SettingError if `data=book` or `full` is typed, but a recipe replaces its windows."""
    recipe = hydra_cfg.runtime.choices.get("recipe")
    typed = dict(override.partition("=")[::2] for override in as_typed(hydra_cfg.overrides.task))
    if (data := typed.get("data")) not in ("book", "full") or recipe == "none" or "data.num_train" in typed:
        return
    if cfg.data.num_train != OmegaConf.load(CONF / "data" / f"{data}.yaml").num_train:
        raise SettingError(f"data={data}: recipe={recipe} replaces its windows; remove one of them")


class Hooks(Callback):
    """Hydra's callback before and after a run or a sweep. It rejects a folder in use before Hydra writes to it.

    Errors raise SystemExit, since Hydra turns other exceptions of a callback into warnings.
    """

    jobs = 0  # number of jobs of a sweep; 0 for a single run
    messages: set[str]  # printed messages of failed jobs, so that a mistake that all jobs share is one line

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Exit if the folder contains a trained run or a sweep, unless this run is resumed or a job of that sweep."""
        folder = config.hydra.run.dir
        remember_folder(folder)
        left = ("metrics.csv", "steps.csv", EXPORT, "multirun.yaml")
        is_new = is_first_process() and not (config.resume is not None or is_requeued() or is_job())
        if is_new and (is_running(Path(folder)) or any(os.path.exists(f"{folder}/{name}") for name in left)):
            again = f"resume={folder}, or another folder"
            sys.exit(f"error: hydra.run.dir={folder}: contains a run or a sweep already; use {again}")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Reject a sweep that cannot run, and print its folder."""
        from timemachine.cli import sweep

        self.jobs, self.messages = sweep.begin(config), set()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Print the progress of a sweep, in the process that ran the job."""
        if self.jobs:
            from timemachine.cli import sweep

            sweep.print_progress(config, self.jobs, self.messages)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the sweep's table and report; exit with status 1 if a job failed."""
        if sys.exc_info()[0] is None:  # Hydra 1.4 also calls this after a sweep that was rejected or interrupted
            from timemachine.cli import sweep

            sweep.end(config)

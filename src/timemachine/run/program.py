"""Shared by the programs: errors of settings, the functions of conf/, the folder of a run."""

import functools
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf, open_dict

from timemachine.config import DATA, TRAINER, check, format_value, require
from timemachine.errors import SettingError, UserError, unwrapped
from timemachine.run.arguments import check_types
from timemachine.run.console import error_line
from timemachine.run.jobs import job_folders
from timemachine.run.record import (
    ENDED,
    EXPORT,
    LAST,
    MACHINE_SETTINGS,
    TRUSTED_CLASSES,
    Record,
    is_first_process,
    read_summary,
    was_interrupted,
)
from timemachine.run.signals import INTERRUPTED, TERMINATED, end_quietly, end_with_parent

OF_A_RUN = ("summary.json", EXPORT, LAST)
GROUPS = ("model", "data", "trainer")  # whose recorded values a resumed run takes
# Arguments that train.py passes itself: a value in conf/ or on the command line would be ignored.
PASSED = {
    "model": {"vocab_size": "data"},
    "trainer": {"logger": "logger", "callbacks": "callbacks", "default_root_dir": "hydra.run.dir"},
}


def exit_on_setting_errors(main: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Decorate the function of `hydra.main`: a `UserError` is one line, with exit status 1.

    All others, such as a mistake in a custom class, are left to Hydra, which prints a short traceback. After Ctrl-C the
    exit status is 130. Errors of a sweep's jobs are left to `run.sweep.Sweep`.
    """
    end_quietly()  # when train.py is imported: Hydra composes the settings before it calls `main`

    @functools.wraps(main)
    def call(cfg: DictConfig) -> Any:
        try:
            return main(cfg)
        except (KeyboardInterrupt, SystemExit) as error:
            if was_interrupted(error):
                sys.exit(TERMINATED if error.args == (TERMINATED,) else INTERRUPTED)
            raise
        except Exception as error:
            cause = unwrapped(error)
            if isinstance(cause, UserError) and not is_job():
                sys.exit(error_line(cause))
            raise cause from None

    return call


def is_job() -> bool:
    """Return whether this is a job of a sweep: Hydra numbers jobs only."""
    return HydraConfig.initialized() and not OmegaConf.is_missing(HydraConfig.get().job, "num")


def has_several_processes(cfg: DictConfig) -> bool:
    """Return whether this is a job of a sweep, in its process, that needs several processes."""
    is_child = HydraConfig.get().mode == RunMode.RUN
    return is_job() and not is_child and [cfg.trainer.get(name, 1) for name in ("devices", "num_nodes")] != [1, 1]


def open_run(cfg: DictConfig) -> Record:
    """Return the record of a run in Hydra's folder; with `resume=`, take the recorded settings first.

    Raises SettingError if `resume` names no run, or a run of a class that is not ours and not typed.
    """
    hydra_cfg = HydraConfig.get()
    folder, overrides = Path(hydra_cfg.runtime.output_dir), list(hydra_cfg.overrides.task)
    # Before anything reads a setting: all later checks concern the settings of the run as it will continue.
    if cfg.resume is not None:
        take_recorded(cfg, read_summary(folder)["settings"], overrides)
    if not is_first_process():
        end_with_parent()
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: an orderly end, also before the training
    settings: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    exercise = str(hydra_cfg.runtime.choices.get("exercise") or "none")
    places, ignored = places_of_settings(hydra_cfg), {"resume", *typed_overlays(hydra_cfg)}  # by a resumed run
    typed = [*places, *(each for each in overrides if override_name(each) not in ignored)]
    searches = is_job() and not str(hydra_cfg.sweeper._target_).endswith(".BasicSweeper")
    about = {"overrides": [*places, *overrides], "exercise": exercise}
    return Record(folder, settings, is_job=is_job(), searches=searches, typed=typed, files=hydra_files(cfg), **about)


def override_name(override: str) -> str:
    """Return the name of the setting or the group in an override such as `+model.lr=1`."""
    return override.lstrip("+~").partition("=")[0]


def typed_overlays(hydra_cfg: Any) -> list[str]:
    """Return the typed groups that change settings of other groups, such as `recipe`: a resumed run ignores them."""
    groups = {str(group) for group in hydra_cfg.runtime.choices} - {*GROUPS, "callbacks", "logger"}
    names = map(override_name, hydra_cfg.overrides.task)
    return [name for name in names if name in groups and not name.startswith("hydra")]


def hydra_files(cfg: DictConfig) -> dict[str, str]:
    """Return the three files of `.hydra/`, by their paths.

    Hydra writes them before it calls the program (`hydra.output_subdir`), so that a command that is rejected would
    replace the files of the run whose folder it names.
    """
    hydra_cfg = HydraConfig.get()
    contents = {"config": cfg, "hydra": OmegaConf.create({"hydra": hydra_cfg}), "overrides": hydra_cfg.overrides.task}
    return {f".hydra/{name}.yaml": OmegaConf.to_yaml(content) for name, content in contents.items()}


def check_settings(settings: dict[str, Any]) -> None:
    """Check the settings of a run. Raises SettingError."""
    hydra_cfg = HydraConfig.get()
    added = {override_name(override) for override in hydra_cfg.overrides.task if override.startswith("+")}
    # Hydra adds any name after a `+`: `+hidens=64` would train without a word.
    for name in sorted(added - {*GROUPS, *map(str, hydra_cfg.runtime.choices)}):  # `~data` removes the choice
        require("." in name, name, settings.get(name), "no such setting; conf/train.yaml has them")
    for group, names in PASSED.items():
        for name in names.keys() & settings[group].keys():
            rule = f"train.py passes this argument itself; use {names[name]}"
            raise SettingError(f"{group}.{name}={format_value(settings[group][name])}: {rule}")
    check(settings, {"seed": DATA["seed"]})
    numbers = {name: value for name, value in settings["trainer"].items() if isinstance(value, int | float)}
    check(numbers, TRAINER, "trainer.")  # values of other types: `check_types`
    tags = settings.get("tags", [])
    are_words = isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)
    require(are_words, "tags", tags, "must be a list of words", "[baseline,wide]")
    check_types(settings)  # last, since it imports the classes, and with them torch and Lightning


def places_of_settings(hydra_cfg: Any) -> list[str]:
    """Return the words of the command line that say where Hydra finds files of settings."""
    name, sources = str(hydra_cfg.job.config_name), hydra_cfg.runtime.config_sources
    # Hydra lists the folders of `--config-dir` among its sources, not among the overrides.
    words = [] if name == "train" else ["--config-name", name]
    words += [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]
    return words + [each for each in hydra_cfg.overrides.hydra if each.startswith("hydra.searchpath=")]


def take_recorded(cfg: DictConfig, recorded: dict[str, Any], overrides: list[str]) -> None:
    """Set seed, model, data and trainer of a resumed run to its recorded plain values, except for those typed again.

    Raises SettingError for recorded settings that are not a run's, and for a class of a user's that is not typed again.
    """
    typed = {*map(override_name, overrides)}
    again = {name: OmegaConf.select(cfg, name) for name in typed if name.partition(".")[0] in GROUPS and "." in name}
    own = {again[name] for name in ("model._target_", "data._target_") if name in again}
    if not all(isinstance(recorded.get(group), dict) for group in GROUPS):
        raise SettingError(f"resume={cfg.resume}: not a run's folder, or damaged")
    with open_dict(cfg):
        for name in {"seed", "init_from", "probes", "tags", "optimized_metric"} - typed:
            if _is_plain(recorded.get(name)):
                cfg[name] = recorded.get(name)
        # A typed choice of a model or of data, with all its values, must equal the run's.
        for group in [group for group in GROUPS if group == "trainer" or group not in typed]:
            plain = {name: value for name, value in recorded[group].items() if _is_plain(value)}
            target = plain.pop("_target_", None)
            # The folder may be somebody else's: a class that it names is imported only if it is one of ours.
            if target in own or (target in TRUSTED_CLASSES and f"{group}._target_" not in typed):
                cfg[group] = {"_target_": target} | plain
            else:  # a class from the command line or conf/: only arguments that do not depend on the machine
                names = {name for name in plain if not MACHINE_SETTINGS.fullmatch(f"{group}.{name}")}
                cfg[group].update({name: plain[name] for name in names & cfg[group].keys()})
        for name, value in again.items():
            OmegaConf.update(cfg, name, value)
    classes = {f"{group}._target_": recorded[group].get("_target_") for group in ("model", "data")}
    others = [f"{name}={target}" for name, target in classes.items() if target != OmegaConf.select(cfg, name)]
    if others:
        raise SettingError(f"resume={cfg.resume}: the run has {' '.join(others)}; type this as well, if it is yours")


def _is_plain(value: Any) -> bool:
    """Return whether a value is a number, a text without an interpolation, or a list of these."""
    values = value if isinstance(value, list) else [value]
    return all(isinstance(each, str | int | float | None) and "${" not in str(each) for each in values)


def class_of(target: Any) -> type | None:
    """Return the class of `model._target_` for a program that loads a run, None for null. Raises SettingError."""
    require(target is None or isinstance(target, str), "model._target_", target, "must be the name of a class")
    return get_class(target) if target else None


def find_runs(run: str) -> list[Path]:
    """Return the path of a run, or of each job of a sweep that has weights; for `latest`, the newest below outputs/.

    Raises SettingError if it does not exist.
    """
    path = newest_run() if run == "latest" and not Path(run).exists() else Path(run)
    if not run or path is None or not path.exists():  # an empty path is the working directory
        raise SettingError(f"run={run}: not found; use the folder that train.py printed at its end")
    jobs = job_folders(path) if path.is_dir() and not any((path / name).exists() for name in OF_A_RUN) else []
    return [job for job in jobs if any((job / name).exists() for name in (EXPORT, LAST))] or [path]


def newest_run(is_open: bool = False) -> Path | None:
    """Return the folder of the newest run below outputs/ that has weights, None if there is none.

    `is_open`: only of runs that have a checkpoint and have not ended.
    """
    # By the time of the last write: a run that was resumed is newer than its folder's name says.
    summaries = sorted(Path("outputs").glob("**/summary.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for folder in (path.parent for path in summaries):
        has_checkpoint = (folder / LAST).exists()
        if is_open and has_checkpoint and not _has_ended(folder):
            return folder
        if not is_open and (has_checkpoint or (folder / EXPORT).exists()):
            return folder
    return None


def _has_ended(folder: Path) -> bool:
    """Return whether a run has ended, or cannot be read."""
    try:
        return bool(read_summary(folder)["status"] in ENDED)
    except SettingError:
        return True


def _run_folder(resume: str | None, new: str) -> str:
    """Return the folder of a run: the one to resume, one for all processes of a group, or `new`."""
    if resume is not None:
        return str(newest_run(is_open=True) or resume) if resume == "latest" else resume
    # The processes of one run start at different times.
    if int(os.environ.get("SLURM_NTASKS", 1)) > 1 and "SLURM_STEP_ID" in os.environ:
        return f"outputs/slurm-{os.environ['SLURM_JOB_ID']}-{os.environ['SLURM_STEP_ID']}"
    if "TORCHELASTIC_RUN_ID" in os.environ:
        if (name := os.environ["TORCHELASTIC_RUN_ID"]) == "none":  # without torchrun's --rdzv-id
            started = psutil.Process(os.getppid()).create_time()  # of torchrun: its process ids repeat
            name = f"{time.strftime('%Y-%m-%d_%H-%M-%S', time.localtime(started))}-{os.getppid()}"
        return f"outputs/torchrun-{name}"
    return new


def _divide(number: int, by: int) -> int:
    """Return a whole number: in an exercise, one setting may depend on another one that the sweep varies."""
    return int(number) // int(by)


def _accelerator() -> str:
    """Return Lightning's `auto`, but `cpu` on a Mac: MPS has no float64, which the sums of losses need."""
    return "cpu" if sys.platform == "darwin" else "auto"


def _sweep_folder() -> str | None:
    """Return the folder of the sweep that this is a job of, None for a single run."""
    return str(HydraConfig.get().sweep.dir) if is_job() else None


def _agents_id() -> str | None:
    """Return the id that `wandb agent` gives to a run. The jobs of a sweep of Hydra's must not share it."""
    return None if is_job() else os.environ.get("WANDB_RUN_ID")


def _typed() -> str:
    """Return the command line's overrides, except for loggers and `resume`."""
    overrides = HydraConfig.get().overrides.task
    return " ".join(each for each in overrides if not override_name(each).startswith(("logger", "resume")))


# conf/ calls these as ${name:argument}. Registered by the import of this module, since Hydra reads conf/ before `main`.
RESOLVERS: dict[str, Callable[..., Any]] = {
    "run_folder": _run_folder, "divide": _divide, "accelerator": _accelerator, "sweep_folder": _sweep_folder,
    "agents_id": _agents_id, "typed": _typed,
}  # fmt: skip
for _name, _function in RESOLVERS.items():
    OmegaConf.register_new_resolver(_name, _function, replace=True)

"""`resume=<folder>`: continue a run with the settings in its summary.json, overridden by the command line.

A run resumes in four steps: `arguments_to_resume` lets Hydra use the run's folder, `settings_to_resume` merges the
settings, `checkpoint_to_resume` of `run.checkpoint` compares them and finds the checkpoint, and when Lightning restores
it, `on_load_checkpoint` and `on_train_start` of `Checkpoints` and `Tables` restore random states and drop later rows.

Hydra composes only the new command line. It reads nothing from the folder, which therefore cannot name files, search
paths or options of Hydra. For a sweep, the user repeats the whole command.
"""

import os
import re
from pathlib import Path, PurePath
from typing import Any

from omegaconf import OmegaConf

from timemachine.cli.arguments import MULTIRUN, name_of, quoted, unquoted_path
from timemachine.cli.schema import CONF
from timemachine.errors import SettingError
from timemachine.run.jobs import exercise_of, job_folders, read_job
from timemachine.run.record import run_summary
from timemachine.weights_and_biases import LOGGER, RESUMABLE

# Loggers that only write files in the run's folder. Any other could send metrics, and an API key, to a server that the
# folder names.
LOCAL_LOGGERS = ("lightning.pytorch.loggers.CSVLogger", "lightning.pytorch.loggers.TensorBoardLogger")
PLACES = ("save_dir", "dirpath", "root_dir")  # Lightning's arguments for folders


def arguments_to_resume(arguments: list[str]) -> list[str]:
    """Return the arguments, extended by those that make Hydra use the folder that `resume=` names.

    Raises SettingError for a folder that cannot be resumed, before anything is written to it.
    """
    typed = [argument for argument in arguments if argument.startswith("resume=")]
    if len(typed) > 1:
        raise SettingError(f"{typed[1]}: only one folder can be resumed; remove {typed[0]}")
    folder = unquoted_path(typed[0].partition("=")[2])
    if not folder:
        raise SettingError("resume=: expected the folder of a run or a sweep, such as resume=latest")
    for argument in arguments:
        name, _, other = argument.partition("=")
        if name in ("hydra.run.dir", "hydra.sweep.dir") and unquoted_path(other) != folder:
            raise SettingError(f"{argument}: a resumed run stays in its folder, {folder}; remove {argument}")
    is_run = os.path.isfile(f"{folder}/summary.json")
    added = _arguments_of_run(folder, arguments) if is_run else _arguments_of_sweep(folder, arguments)
    for path in Path(folder).rglob("*"):
        is_in_wandb_folder = "wandb" in path.parent.relative_to(folder).parts  # W&B replaces its own links
        if path.is_symlink() and not is_in_wandb_folder and not path.resolve().is_relative_to(Path(folder).resolve()):
            instead = "replace it with a copy of its target"
            raise SettingError(f"resume={folder}: {path} is a link to a place outside the folder; {instead}")
    return list(dict.fromkeys([*arguments, *added]))  # without duplicates: DDP's processes start with the added ones


def _arguments_of_run(folder: str, arguments: list[str]) -> list[str]:
    for argument in arguments:
        if argument in MULTIRUN or argument.startswith("exercise="):
            raise SettingError(f"{argument}: resume={folder} is a single run, not a sweep; remove {argument}")
    run_summary(folder, "resume")  # fail on a damaged file before the slow imports
    return ["hydra.mode=RUN", "hydra.output_subdir=null", f"hydra.run.dir={quoted(folder)}"]


def _arguments_of_sweep(folder: str, arguments: list[str]) -> list[str]:
    typed = dict(argument.partition("=")[::2] for argument in arguments)
    exercise, jobs = typed.get("exercise", "none"), job_folders(Path(folder))
    if typed.get("hydra/sweeper", "basic") != "basic":
        instead = "use the same hydra.sweeper.storage and .study_name in another folder"
        raise SettingError(f"resume={folder}: a search cannot be resumed; {instead}")
    if not (jobs or Path(folder, "multirun.yaml").exists()):
        raise SettingError(f"resume={folder}: no run or sweep found; use another folder, or remove resume={folder}")
    if exercise == "none" and not MULTIRUN & set(arguments):
        rule = "is not a run; for a sweep, repeat its whole command, such as -m model.hiddens=16,32"
        raise SettingError(f"resume={folder}: {rule}")
    began = [job for job in map(read_job, jobs) if job.exercise]
    if began and (before := exercise_of(began)) != exercise:
        raise SettingError(f"resume={folder}: is a sweep of exercise={before}, not {exercise}; use exercise={before}")
    return [f"hydra.sweep.dir={quoted(folder)}"]


def settings_to_resume(composed: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Return the recorded settings of the run to resume, overridden by the typed ones.

    `composed`: the settings that Hydra composed from `overrides`, as nested dicts. An override of a group, such as
    `trainer=cpu`, replaces all settings that any file of the group contains. Raises SettingError for a recorded entry
    that has to be typed again, and for a setting that only a new run can have.
    """
    folder = composed["resume"]
    summary = run_summary(folder, "resume")
    settings: dict[str, Any] = summary["settings"]
    settings["data"]["corpus"] = summary["corpus"]["source"]  # an absolute path
    typed = [name_of(override) for override in overrides]
    _refuse_remote_entries(settings, folder, typed)
    for override, path in zip(overrides, typed, strict=True):
        *groups, name = path.split(".")
        if name == "trainer" and not groups:
            set_by_choices = {key for file in (CONF / name).glob("*.yaml") for key in OmegaConf.load(file)}
            settings[name] |= {key: composed[name][key] for key in set_by_choices}
            continue
        source, target = composed, settings
        for group in groups:
            source, target = source.get(group, {}), target.setdefault(group, {})
        if name not in source:
            raise SettingError(f"{override}: can only be set for a new run; remove it, or resume={folder}")
        target[name] = source[name]
    return settings


def _refuse_remote_entries(settings: dict[str, Any], folder: str, typed: list[str]) -> None:
    """Raise SettingError for a recorded logger or callback that may send data elsewhere or write outside the folder.

    The user has to type it again; then the recorded entry is dropped, and only the typed one counts.
    """
    for group, none in (("logger", "csv"), ("callbacks", "none")):
        for name, entry in list(settings[group].items()):
            is_remote = group == "logger" and not _is_resumable(entry)
            if not is_remote and re.fullmatch(r"[\w-]+", name) and not _names_place(entry):
                continue
            if group not in typed and not any(it.startswith(f"{group}.{name}.") for it in typed):
                reason = "may send data elsewhere, or write outside the run's folder"
                raise SettingError(f"{group}.{name}: {reason}; type its settings again, or {group}={none}")
            del settings[group][name]


def _is_resumable(entry: Any) -> bool:
    """Return whether a recorded logger only writes to the run's folder, or is W&B's with harmless arguments."""
    if not isinstance(entry, dict):
        return False
    is_wandb = entry.get("_target_") == LOGGER and entry.keys() <= {"_target_", *RESUMABLE}
    return is_wandb or entry.get("_target_") in LOCAL_LOGGERS


def _names_place(value: Any) -> bool:
    """Return whether a value contains an argument for a folder, or a text that may be a path outside the run's."""
    if isinstance(value, dict):
        return any(value.get(name) is not None for name in PLACES) or _names_place([*value.values()])
    if isinstance(value, list):
        return any(map(_names_place, value))
    is_text = isinstance(value, str)
    return is_text and ("://" in value or value.startswith(("/", "~")) or ".." in PurePath(value).parts)

"""`resume=<folder>`: continue a run with the settings in its summary.json, and those typed now on top.

Hydra composes what is typed now. It reads nothing from the folder, which therefore cannot name files, search paths or
options of Hydra. The command of a sweep is typed again as a whole.
"""

import os
import re
from pathlib import Path, PurePath
from typing import Any

from omegaconf import OmegaConf

from timemachine.cli.arguments import MULTIRUN, quoted, unquoted_path
from timemachine.cli.schema import CONF
from timemachine.config import Train, from_dict, to_dict
from timemachine.errors import SettingError, UserError, one_line
from timemachine.run.files import links_that_leave
from timemachine.run.jobs import exercise_of, job_folders, read_job
from timemachine.run.record import read_summary
from timemachine.weights_and_biases import LOGGER, RESUMABLE

# Loggers that only write files in the run's folder. Another one could send metrics, and a key, to a server that the
# folder names.
LOCAL_LOGGERS = ("lightning.pytorch.loggers.CSVLogger", "lightning.pytorch.loggers.TensorBoardLogger")


def with_resumed(arguments: list[str]) -> list[str]:
    """Return the arguments, one of which is `resume=`, with Hydra's folder set to the one that it names.

    Raises SettingError for a folder that cannot be resumed, before anything is written there.
    """
    resumed = [argument for argument in arguments if argument.startswith("resume=")]
    if len(resumed) > 1:
        raise SettingError(f"{resumed[1]}: only one folder can be resumed; remove {resumed[0]}")
    folder = unquoted_path(resumed[0].partition("=")[2])
    for argument in arguments:
        name, _, other = argument.partition("=")
        if name in ("hydra.run.dir", "hydra.sweep.dir") and unquoted_path(other) != folder:
            raise SettingError(f"{argument}: resume={folder} continues in its own folder; remove {argument}")
    is_run = os.path.isfile(f"{folder}/summary.json")
    added = _arguments_of_run(folder, arguments) if is_run else _arguments_of_sweep(folder, arguments)
    if link := next(links_that_leave(Path(folder)), None):
        raise SettingError(f"resume={folder}: {link} is a symbolic link to a place outside; replace it by a copy")
    return list(dict.fromkeys([*arguments, *added]))  # the processes of DDP start with the arguments added before


def _arguments_of_run(folder: str, arguments: list[str]) -> list[str]:
    for argument in arguments:
        if argument in MULTIRUN or argument.startswith("exercise="):
            raise SettingError(f"{argument}: resume={folder} is a single run; remove {argument}")
    recorded_settings(folder)  # fail on a damaged file before the slow imports
    return ["hydra.mode=RUN", "hydra.output_subdir=null", f"hydra.run.dir={quoted(folder)}"]


def _arguments_of_sweep(folder: str, arguments: list[str]) -> list[str]:
    typed = dict(argument.partition("=")[::2] for argument in arguments)
    exercise = typed.get("exercise", "none")
    if typed.get("hydra/sweeper", "basic") != "basic":
        instead = "use the same hydra.sweeper.storage and .study_name in another folder"
        raise SettingError(f"resume={folder}: a search cannot be resumed; {instead}")
    jobs = job_folders(Path(folder))
    if not (jobs or Path(folder, "multirun.yaml").exists()):
        if Path(folder, ".hydra").is_dir():
            raise SettingError(f"resume={folder}: the run was killed before it began; type its command again")
        raise SettingError(
            f"resume={folder}: not the folder of a run or a sweep; expected one like outputs/<date>/<time>"
        )
    if exercise == "none" and not MULTIRUN & set(arguments):
        raise SettingError(f"resume={folder}: is a sweep; add the command that started it, such as exercise=clipping")
    began = [job for job in map(read_job, jobs) if job.exercise]
    if began and (before := exercise_of(began)) != exercise:
        raise SettingError(f"resume={folder}: is a sweep of exercise={before}, not {exercise}")
    return [f"hydra.sweep.dir={quoted(folder)}"]


def recorded_settings(folder: str) -> dict[str, Any]:
    """Return the settings of a run as its summary.json has them, checked against the schema.

    The text is named by the absolute path where the run found it, so that it is found from any working directory.
    Raises SettingError for a damaged file.
    """
    try:
        summary = read_summary(Path(folder))
        if "corpus" not in summary:
            rule = "the run ended before it had read its text; type its command again"
            raise UserError(f"resume={folder}: {rule}")
        if missing := to_dict(Train()).keys() - summary["settings"].keys():
            raise ValueError(f"settings: {min(missing)} is missing")
        settings = to_dict(from_dict(Train, summary["settings"]))
    except (OSError, ValueError, SettingError) as error:
        reason = one_line(error, 100)
        raise SettingError(f"resume={folder}: {folder}/summary.json is damaged: {reason}") from error
    settings["data"]["corpus"] = summary["corpus"].get("source", settings["data"]["corpus"])
    return settings


def resumed_settings(composed: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Return the recorded settings of the run to resume, with those typed now on top.

    `composed`: the settings that Hydra composed from the overrides typed now, as nested dicts. If a group is typed,
    such as `trainer=cpu`, each setting that a file of the group contains is taken from it. Raises SettingError for an
    entry that cannot be taken from a folder, or a setting that cannot be changed when resuming.
    """
    folder = composed["resume"]
    settings = recorded_settings(folder)
    typed = [override.lstrip("+~").partition("=")[0] for override in overrides]
    _refuse_what_leaves(settings, folder, typed)
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
            raise SettingError(f"{override}: only for a new run; remove it, or resume={folder}")
        target[name] = source[name]
    return settings


def _refuse_what_leaves(settings: dict[str, Any], folder: str, typed: list[str]) -> None:
    """Raise SettingError for a recorded logger or callback that would send data, or write a file, elsewhere.

    It has to be typed again. An entry that is typed now is not recorded.
    """
    for group, none in (("logger", "csv"), ("callbacks", "none")):
        for name, entry in list(settings[group].items()):
            is_remote = group == "logger" and not _is_resumable(entry)
            if not is_remote and re.fullmatch(r"[\w-]+", name) and _stays_in(folder, entry):
                continue
            if group not in typed and not any(it.startswith(f"{group}.{name}.") for it in typed):
                reason = "sends data elsewhere" if is_remote else f"names a place outside {folder}"
                raise SettingError(f"{group}.{name}: {reason}; type its settings again, or {group}={none}")
            del settings[group][name]


def _is_resumable(entry: Any) -> bool:
    """Return whether a recorded logger writes into the run's folder, or is W&B's with harmless arguments."""
    if not isinstance(entry, dict):
        return False
    is_wandb = entry.get("_target_") == LOGGER and entry.keys() <= {"_target_", *RESUMABLE}
    return is_wandb or entry.get("_target_") in LOCAL_LOGGERS


def _stays_in(folder: str, value: Any) -> bool:
    """Return whether each text in a value that is a path lies in the folder."""
    if isinstance(value, dict):  # Lightning's arguments for folders may be relative to any directory
        places = [value[name] for name in ("save_dir", "dirpath", "root_dir") if value.get(name) is not None]
        inside = Path(folder).resolve()
        are_inside = all(Path(str(place)).resolve().is_relative_to(inside) for place in places)
        return are_inside and _stays_in(folder, [*value.values()])
    if isinstance(value, list):
        return all(_stays_in(folder, each) for each in value)
    if not isinstance(value, str):
        return True
    if "://" in value or value.startswith("~") or ".." in PurePath(value).parts:
        return False
    return not PurePath(value).is_absolute() or Path(value).is_relative_to(Path(folder).resolve())

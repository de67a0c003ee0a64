"""Turn an error into one line that names the setting."""

import errno
import os
import re
import sys
from concurrent.futures import BrokenExecutor
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from timemachine.cli.arguments import name_of, nearest_setting
from timemachine.cli.schema import choices, leaves
from timemachine.config import example
from timemachine.errors import UserError, one_line
from timemachine.run.files import cannot_write, relative_path
from timemachine.run.processes import is_first_process

# Missing plugin -> the extra of pyproject.toml that installs it.
EXTRAS = {"submitit_slurm": "slurm", "submitit_local": "slurm", "optuna": "search"}

_folder = "."  # of the run or the sweep; when an error ends the program, Hydra no longer has it
_is_sweep = False


def remember_folder(folder: Path | str, is_sweep: bool = False) -> None:
    """Remember the folder of the run or the sweep for messages."""
    global _folder, _is_sweep
    _folder, _is_sweep = relative_path(folder), is_sweep


def print_how_to_resume() -> None:
    """Print how to resume an interrupted sweep. For a run, its `Record` prints it."""
    if _is_sweep and os.path.exists(f"{_folder}/multirun.yaml"):
        print(f"resume with   the same command and resume={_folder}", flush=True)


def exit_with(error: Exception, schema: type) -> NoReturn:
    """End the program with exit status 1 and one line, which only the first process of a run prints.

    An error that may be a mistake in the code is raised again, for its traceback.
    """
    message: object = error
    if isinstance(error, HydraException | OmegaConfBaseException):
        message = _about_hydra(error, schema)
    elif isinstance(error, OSError) and cannot_write(_folder, error):
        is_resumed = any(argument.startswith("resume=") for argument in sys.argv)
        setting = "resume" if is_resumed else "hydra.sweep.dir" if _is_sweep else "hydra.run.dir"
        instead = "free some space" if error.errno == errno.ENOSPC else f"use {setting}=<a folder to write to>"
        message = f"{setting}={_folder}: {error.filename or _folder}: {error.strerror}; {instead}"
    elif isinstance(error, BrokenExecutor):  # joblib has lost a worker and ended the others
        print_how_to_resume()
        message = "a worker process was killed, perhaps for lack of memory; use fewer workers: hydra.launcher.n_jobs=1"
    elif not isinstance(error, UserError | yaml.YAMLError):
        raise error
    sys.exit(f"error: {one_line(message)}" if is_first_process() else 1)


def _about_hydra(error: Exception, schema: type) -> str:
    """Return Hydra's or OmegaConf's message with the name of the setting.

    OmegaConf's errors have the name in `full_key`. Such an error is the cause of Hydra's error, or its context if a
    user's file is wrong.
    """
    causes = (error.__cause__, error, error.__context__)
    cause = next((cause for cause in causes if getattr(cause, "full_key", None)), error)
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be parsed by Hydra; expected NAME=VALUE, or 'NAME=\"a quoted value\"'"
    if isinstance(error, MissingConfigException):
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        options = list(error.options or (choices(group) if group else ()))
        if options or choice in EXTRAS:
            return no_such_choice(group, choice, options)
    name = str(getattr(cause, "full_key", None) or "")
    argument, known = _typed(name), dict(leaves(schema))
    if isinstance(cause, MissingMandatoryValue) and name in known:
        return f"{argument}: missing value; use {name}={example(known[name])}"
    place = re.match(r"In '(.+?/.+?)': ", str(error))  # a configuration file of the user
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and name not in known and not name.startswith("hydra."):
        where = f"{place[1]}.yaml: {name}" if place else argument
        nearest = nearest_setting(name if place else name_of(argument), schema)
        return f"{where}: unknown setting; {nearest}"
    lines = str(error if name.startswith("hydra.") or not name else cause).splitlines()
    message = "\n".join(line for line in lines if not re.match(r"\s*(full_key|reference_type|object_type)\b", line))
    return f"{argument}: {message}" if argument and argument not in message else message


def _typed(name: str) -> str:
    """Return the argument that sets a setting or one below it; the name itself if a file sets it."""
    if not name:
        return ""
    names = {name_of(argument): argument for argument in sys.argv[1:]}
    return names.get(name) or next((names[it] for it in names if it.startswith(f"{name}.")), name)


def no_such_choice(group: str, choice: str, known: list[str]) -> str:
    """Return the message for an unknown choice of a group."""
    if choice in EXTRAS:
        return f"{group}={choice}: not installed; use pip install -e '.[{EXTRAS[choice]}]'"
    near = get_close_matches(choice, known, 1)
    instead = f"did you mean {group}={near[0]}? Choices:" if near else "use one of"
    own = f"; or {group}.NAME._target_=CLASS" if group in ("callbacks", "logger") else ""
    return f"{group}={choice}: not found; {instead} {', '.join(known)}{own}"

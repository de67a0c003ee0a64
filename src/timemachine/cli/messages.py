"""From an error to one line that says what to type."""

import errno
import os
import re
import sys
import traceback
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import NoReturn

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from timemachine.cli.arguments import what_to_type
from timemachine.cli.schema import leaves, no_such_choice
from timemachine.config import Train, allowed, example
from timemachine.errors import UserError, one_line
from timemachine.runs.files import cannot_write, shown
from timemachine.runs.processes import is_first_process

# What is not installed -> the extra of pyproject.toml that has it.
EXTRAS = {"submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray", "optuna": "search"}
# What their errors say, a user can mend; sqlalchemy stores a study.
LIBRARIES = ("submitit", "ray", "optuna", "sqlalchemy")

_folder = "."  # of a run or a sweep; Hydra has forgotten it when a message needs it
_is_sweep = False


def remember_folder(folder: Path | str, is_sweep: bool = False) -> None:
    """Note the folder of the run or the sweep for messages."""
    global _folder, _is_sweep
    _folder, _is_sweep = shown(folder), is_sweep


def say_how_to_go_on() -> None:
    """Print what to type if a sweep has been interrupted. A run says so itself."""
    if _is_sweep and os.path.exists(f"{_folder}/multirun.yaml"):
        print(f"go on with    the same command and resume={_folder}", flush=True)


def exit_with(error: Exception, schema: type) -> NoReturn:
    """End the program with exit status 1 and one line, which the first process of a run alone prints.

    Raise again an error that is not a user's: a mistake in the code.
    """
    message: object = error
    if isinstance(error, HydraException | OmegaConfBaseException):
        message = _about_a_value(error, schema)
    elif isinstance(error, OSError) and cannot_write(_folder, error):
        instead = f"hydra.{'sweep' if _is_sweep else 'run'}.dir=<a folder to write to>"
        if any(argument.startswith("resume=") for argument in sys.argv):
            instead = "resume=<a copy of the folder, where one can write>"
        room = "make room, or " if error.errno == errno.ENOSPC else ""
        message = f"{error.filename or _folder}: {error.strerror}; {room}type {instead}"
    elif isinstance(error, yaml.YAMLError):
        message = _about_a_file(error)
    elif reason := _of_a_launcher(error):
        say_how_to_go_on()
        message = reason
    elif not isinstance(error, UserError):
        raise error
    sys.exit(f"error: {one_line(message)}" if is_first_process() else 1)


def _about_a_value(error: Exception, schema: type) -> str:
    """Return Hydra's or OmegaConf's message about a value, with what to type instead."""
    cause, text = error.__cause__ or error, str(error).strip()
    if isinstance(error.__context__, OmegaConfBaseException):  # which a user's own file has raised
        cause = error.__context__
    if isinstance(error, OverrideParseException):
        name = error.override.partition("=")[0]
        return f"{error.override}: Hydra cannot read this value; type a plain one, or quote it: '{name}=\"…\"'"
    if isinstance(error, MissingConfigException):  # of a group of Hydra's own
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        if choice in EXTRAS:
            return f"{group}={choice}: is not installed; type pip install -e '.[{EXTRAS[choice]}]'"
        if error.options:
            return no_such_choice(f"{group}={choice}", group, choice, list(error.options))
    if "Ambiguous value" in text or "requires --multirun" in text:
        name = text.partition("'")[2].partition("'")[0]
        return f"{name}: several values are {'a sweep; type it with -m' if schema is Train else 'a list; type [a,b]'}"
    name = str(getattr(cause, "full_key", None) or "")
    setting = dict(leaves(schema)).get(name)
    if setting and isinstance(cause, OmegaConfBaseException):
        value = next((a.partition("=")[2] for a in reversed(sys.argv) if a.startswith(f"{name}=")), "?")
        rule = allowed(setting) or ("a list" if example(setting).startswith("[") else "a text")
        return f"{name}={value}: must be {rule}; type for example {name}={example(setting, value)}"
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and name and setting is None:
        place = re.match("In '((.+?)/.+?)': ", text)  # a file of the user's
        if place and place[2] == name:
            return f"{place[1]}.yaml: its settings count as {name}.…; its first line must be # @package _global_"
        instead = what_to_type(name, schema, "…")
        return f"{f'{place[1]}.yaml: ' if place else ''}{name}: there is no setting of that name; {instead}"
    first = str(cause if isinstance(cause, OmegaConfBaseException) else error).strip().split("\n")[0]
    return f"{name}: {first}; type another value" if name else f"{first}; type another value"


def _about_a_file(error: yaml.YAMLError) -> str:
    """Return the message about a file of a user's that is not YAML: where, and what is wrong."""
    if not isinstance(error, yaml.MarkedYAMLError) or (mark := error.problem_mark) is None:
        return f"{error}; type plain text in that file"
    return f"{mark.name}: line {mark.line + 1}, column {mark.column + 1}: {error.problem}; mend that file"


def _of_a_launcher(error: Exception) -> str | None:
    """Return a line for an error that a launcher's or a sweeper's library raised, None for any other error."""
    if isinstance(error, BrokenExecutor):  # joblib has lost a worker, and ended the others
        return "a process of the sweep was killed from outside"
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    is_theirs = frame.f_globals["__name__"].partition(".")[0] in LIBRARIES
    is_mistake_in_a_job = "with trace:" in str(error)
    return " ".join(str(error).strip().split("\n")[:2]) if is_theirs and not is_mistake_in_a_job else None

"""`resume=<folder>`: the arguments that make Hydra go on in the folder of a run or a sweep, or a SettingError."""

import os
from pathlib import Path
from typing import Any

from timemachine.cli.arguments import MULTIRUN, quoted, unquoted_path
from timemachine.cli.search_path import own_search_path
from timemachine.errors import SettingError
from timemachine.runs.files import read_yaml
from timemachine.runs.summaries import read_summary


def with_resumed(arguments: list[str]) -> list[str]:
    """Return the arguments and those that `resume=`, one of them, stands for."""
    resumed = [argument for argument in arguments if argument.startswith("resume=")]
    if len(resumed) > 1:
        raise SettingError(f"{resumed[1]}: goes with one folder; type it without {resumed[0]}")
    folder = unquoted_path(resumed[0].partition("=")[2])
    is_run = os.path.isfile(f"{folder}/.hydra/overrides.yaml")
    added = (_arguments_of_run if is_run else _arguments_of_sweep)(folder, arguments)
    for argument in arguments:
        name, _, other = argument.partition("=")
        if name in ("hydra.run.dir", "hydra.sweep.dir") and unquoted_path(other) != folder:
            raise SettingError(f"{argument}: resume={folder} goes on in its own folder; type it without {argument}")
    flags = [argument for argument in arguments if argument.startswith("-")]
    # What is typed now comes after what it changes. DDP's processes are started with what has been added before.
    return list(dict.fromkeys([*flags, *(argument for argument in added if argument not in arguments), *arguments]))


def _arguments_of_run(folder: str, arguments: list[str]) -> list[str]:
    """Return the folder as the run's, and what the run was started with and is not typed anew."""
    for argument in arguments:
        if argument in MULTIRUN or argument.startswith("exercise="):
            raise SettingError(f"{argument}: resume={folder} is a single run; type it without {argument}")
    before = [str(override) for override in _of_hydra(folder, "overrides.yaml", list)]
    if not os.path.exists(f"{folder}/summary.json"):  # Hydra may not have written what was typed to its end
        raise SettingError(f"resume={folder}: was cut short before it began; type the command that began it")
    now = {argument.partition("=")[0].lstrip("+") for argument in arguments}
    for group in {"callbacks", "logger"} & now:  # another choice, without what was typed for the one before
        before = [override for override in before if not override.lstrip("+").startswith(f"{group}.")]
    before = [override for override in before if override.partition("=")[0].lstrip("+") not in now]
    hydra = _of_hydra(folder, "hydra.yaml", dict)["hydra"]
    if "hydra.searchpath" not in now:
        before += own_search_path(hydra)
    if "data.corpus" not in now and hydra["runtime"]["cwd"] != os.getcwd():  # noqa: PTH109 (as text)
        before = _with_own_text(before, folder)
    return ["hydra.mode=RUN", "hydra.output_subdir=null", f"hydra.run.dir={quoted(folder)}", *before]


def _with_own_text(arguments: list[str], folder: str) -> list[str]:
    """Return the arguments with a relative `data.corpus` as it finds the run's text from any folder."""
    try:
        summary = read_summary(Path(folder))
        typed, source = summary["settings"]["data"]["corpus"], summary["corpus"]["source"]
    except (LookupError, ValueError):  # it had read none; a damaged file is refused later
        typed = source = None
    if typed == source:
        return arguments
    text = f"[{','.join(map(quoted, source))}]" if isinstance(source, list) else quoted(source)
    return [*(argument for argument in arguments if not argument.startswith("data.corpus=")), f"data.corpus={text}"]


def _of_hydra(folder: str, name: str, kind: type) -> Any:
    """Return what Hydra has written down of a run."""
    try:
        found = read_yaml(Path(folder, ".hydra", name))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, kind):
        raise SettingError(f"resume={folder}: its .hydra/{name} is damaged; type another run")
    return found


def _arguments_of_sweep(folder: str, arguments: list[str]) -> list[str]:
    """Return the folder as the sweep's. Raise SettingError unless it is: Hydra writes into it first and asks later."""
    typed = dict(argument.partition("=")[::2] for argument in arguments)
    exercise = typed.get("exercise", "none")
    if typed.get("hydra/sweeper", "basic") != "basic":
        instead = "the same hydra.sweeper.storage and .study_name as before"
        raise SettingError(f"resume={folder}: a search goes on in another folder; type {instead}, without resume=")
    try:
        before = exercise_of(Path(folder))
    except ValueError as error:
        known = "type resume=outputs/<date>/<time> or resume=sweeps/<date_time>"
        raise SettingError(f"resume={folder}: is no folder of a run or a sweep; {known}") from error
    if exercise == "none" and not MULTIRUN & set(arguments):
        raise SettingError(f"resume={folder}: goes on with a sweep; type the command that began it, such as exercise=…")
    if before != exercise:
        raise SettingError(f"resume={folder}: is a sweep of exercise={before}; type the command that began it")
    return [f"hydra.sweep.dir={quoted(folder)}"]


def exercise_of(sweep: Path) -> str:
    """Return the exercise whose sweep is in the folder, or none. Raise ValueError if no sweep is."""
    try:
        return str(read_yaml(sweep / "multirun.yaml")["hydra"]["runtime"]["choices"]["exercise"])
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{sweep}: is no folder of a sweep") from error

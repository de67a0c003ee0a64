"""`resume=<folder>`: the arguments that make Hydra go on in the folder of a run or a sweep, or a SettingError.

Private: `BasicSweeper`, of Hydra's, tested with Hydra 1.3.8; pyproject.toml bounds it from above.
"""

import os
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from timemachine.cli.flags import MULTIRUN
from timemachine.cli.quoting import quoted, unquoted_path
from timemachine.cli.schema import plain
from timemachine.errors import SettingError
from timemachine.runs.files import read_yaml
from timemachine.runs.resuming import is_done


def with_resumed(arguments: list[str]) -> list[str]:
    """Return the arguments, and those that `resume=` stands for if it is one of them."""
    resumed = [argument for argument in arguments if argument.startswith("resume=")]
    if not resumed:
        return arguments
    if len(resumed) > 1:
        raise SettingError(f"{resumed[1]}: goes with one folder; type it without {resumed[0]}")
    folder = unquoted_path(resumed[0].partition("=")[2])
    if "${" in folder:
        raise SettingError(f"resume={folder}: Hydra reads no path with ${{; rename it and type its new name")
    is_run = os.path.isfile(f"{folder}/.hydra/overrides.yaml")
    arguments = (_resume_run if is_run else _resume_sweep)(folder, arguments)
    if is_run and not os.path.exists(f"{folder}/summary.json"):  # Hydra may not have written what was typed to its end
        raise SettingError(f"resume={folder}: was cut short before it began; type the command that began it")
    return arguments


def _resume_run(folder: str, arguments: list[str]) -> list[str]:
    """Add what the run was started with and is not typed anew. Raise SettingError where that cannot be read, or would
    make Hydra execute code. The run keeps the longer list once it has been accepted.
    """
    try:
        before: Any = read_yaml(Path(folder) / ".hydra" / "overrides.yaml")
        if not isinstance(before, list) or not all(isinstance(typed, str) and "=" in typed for typed in before):
            raise TypeError
    except (OSError, TypeError, ValueError) as error:
        raise SettingError(
            f"resume={folder}: has no .hydra/overrides.yaml that can be read; type another run"
        ) from error
    now = {typed.partition("=")[0] for typed in arguments}
    before = [typed for typed in before if typed.partition("=")[0] not in now]
    for typed in before:  # a stranger may have written it
        if typed.lstrip("+~-").startswith("hydra") or typed.startswith("-"):  # Hydra would obey, and execute code
            raise SettingError(f"resume={folder}: its .hydra/overrides.yaml has {typed!r}; type another run")
        if "${" in typed:  # may read the environment
            name = typed.partition("=")[0]
            raise SettingError(f"resume={folder}: its .hydra/overrides.yaml has {typed!r}; type {name}=… anew")
    for typed in arguments:
        if typed in MULTIRUN or typed.startswith("exercise="):
            raise SettingError(f"{typed}: resume={folder} is a single run; type it without {typed}")
    if any(typed.startswith("logger=") for typed in arguments):
        before = [typed for typed in before if not typed.startswith("logger.")]
    in_place = ["hydra.mode=RUN", "hydra.output_subdir=null", f"hydra.run.dir={quoted(folder)}"]
    _refuse_another_folder(folder, arguments)
    return [*dict.fromkeys([*arguments, *in_place]), *before]


def _resume_sweep(folder: str, arguments: list[str]) -> list[str]:
    """Add the folder as the sweep's. Raise SettingError unless it is: Hydra writes into it first and asks later."""
    exercise = next((a.partition("=")[2] for a in arguments if a.startswith("exercise=")), "none")
    if any(a.startswith("hydra/sweeper=") and a != "hydra/sweeper=basic" for a in arguments):
        instead = "the same hydra.sweeper.storage and .study_name as before"
        raise SettingError(f"resume={folder}: a search goes on in another folder; type {instead}, without resume=")
    try:
        before = read_yaml(Path(folder) / "multirun.yaml")["hydra"]["runtime"]["choices"]["exercise"]
    except (OSError, LookupError, TypeError, ValueError) as error:
        known = "type resume=outputs/<date>/<time> or resume=sweeps/<exercise>/<date_time>"
        raise SettingError(f"resume={folder}: is no folder of a run or a sweep; {known}") from error
    if exercise == "none" and not MULTIRUN & set(arguments):
        command = "the command that began it, such as exercise=…"
        raise SettingError(f"resume={folder}: goes on with a sweep; type {command}")
    if before != exercise:
        raise SettingError(f"resume={folder}: is a sweep of exercise={before}; type the command that began it")
    _refuse_another_folder(folder, arguments)
    return [*arguments, f"hydra.sweep.dir={quoted(folder)}"]


def _refuse_another_folder(folder: str, arguments: list[str]) -> None:
    """Raise SettingError for a folder other than the one that goes on."""
    for argument in arguments:
        name, _, other = argument.partition("=")
        if name in ("hydra.run.dir", "hydra.sweep.dir") and unquoted_path(other) != folder:
            raise SettingError(f"{argument}: resume={folder} goes on in its own folder; type it without {argument}")


def is_search(config: DictConfig) -> bool:
    """Return whether a sweeper other than Hydra's own chooses what the jobs are."""
    return bool(config.hydra.sweeper["_target_"].rpartition(".")[2] != BasicSweeper.__name__)


def refuse_other_jobs(folder: Path, config: DictConfig) -> None:
    """Raise SettingError unless the sweep in the folder can go on with the jobs of this command.

    Each job would say so itself, but not before Hydra has written into the folder of the sweep, and into its own.
    """
    for number, overrides in enumerate(jobs_of(config)):
        job = folder / str(number)
        if _without_resume(overrides) != _began_with(job):  # or they are the same: composing takes half a second
            is_done(job, plain(composed_job(config, overrides)))


def jobs_of(config: DictConfig) -> list[list[str]]:
    """Return what each job of a sweep by Hydra's own sweeper is started with."""
    typed = [f"{name}={values}" for name, values in (config.hydra.sweeper.params or {}).items()]
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    (jobs,) = BasicSweeper.split_arguments(parser.parse_overrides([*typed, *config.hydra.overrides.task]), None)
    return jobs


def composed_job(config: DictConfig, overrides: list[str]) -> DictConfig:
    """Return the settings of a job of a sweep, without Hydra's own."""
    composed = GlobalHydra.instance().config_loader().load_sweep_config(config, overrides)
    return OmegaConf.masked_copy(composed, [str(name) for name in composed if name != "hydra"])


def _began_with(job: Path) -> list[str] | None:
    try:
        return _without_resume(read_yaml(job / ".hydra" / "overrides.yaml"))
    except (OSError, TypeError, ValueError):
        return None


def _without_resume(overrides: list[Any]) -> list[str]:
    return [override for override in map(str, overrides) if not override.startswith("resume=")]

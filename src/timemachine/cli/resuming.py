"""`resume=<folder>`: the arguments that make Hydra go on in the folder of a run or a sweep, or a SettingError.

Private: `BasicSweeper`, of Hydra's, tested with Hydra 1.3.8; pyproject.toml bounds it from above.
"""

import os
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from timemachine.cli.flags import MULTIRUN
from timemachine.cli.quoting import quoted, unquoted_path
from timemachine.cli.schema import resolved, without_hydra
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
    is_run = os.path.isfile(f"{folder}/.hydra/overrides.yaml")
    added = (_arguments_of_run if is_run else _arguments_of_sweep)(folder, arguments)
    for argument in arguments:
        name, _, other = argument.partition("=")
        if name in ("hydra.run.dir", "hydra.sweep.dir") and unquoted_path(other) != folder:
            raise SettingError(f"{argument}: resume={folder} goes on in its own folder; type it without {argument}")
    return list(dict.fromkeys([*arguments, *added]))  # DDP's processes are started with what has been added before


def _arguments_of_run(folder: str, arguments: list[str]) -> list[str]:
    """Return the folder as the run's, and what the run was started with and is not typed anew."""
    for argument in arguments:
        if argument in MULTIRUN or argument.startswith("exercise="):
            raise SettingError(f"{argument}: resume={folder} is a single run; type it without {argument}")
    try:
        before = [str(override) for override in read_yaml(Path(folder) / ".hydra" / "overrides.yaml")]
    except (OSError, TypeError, ValueError) as error:
        raise SettingError(f"resume={folder}: its .hydra/overrides.yaml is damaged; type another run") from error
    if not os.path.exists(f"{folder}/summary.json"):  # Hydra may not have written what was typed to its end
        raise SettingError(f"resume={folder}: was cut short before it began; type the command that began it")
    now = {argument.partition("=")[0] for argument in arguments}
    before = [override for override in before if override.partition("=")[0] not in now]
    if "logger" in now:
        before = [override for override in before if not override.startswith("logger.")]
    return ["hydra.mode=RUN", "hydra.output_subdir=null", f"hydra.run.dir={quoted(folder)}", *before]


def _arguments_of_sweep(folder: str, arguments: list[str]) -> list[str]:
    """Return the folder as the sweep's. Raise SettingError unless it is: Hydra writes into it first and asks later."""
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
    return [f"hydra.sweep.dir={quoted(folder)}"]


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
            is_done(job, resolved(composed_job(config, overrides)))


def jobs_of(config: DictConfig) -> list[list[str]]:
    """Return what each job of a sweep by Hydra's own sweeper is started with."""
    of_files = [f"{name}={values}" for name, values in (config.hydra.sweeper.params or {}).items()]
    parser = OverridesParser.create(GlobalHydra.instance().config_loader())
    (jobs,) = BasicSweeper.split_arguments(parser.parse_overrides([*of_files, *config.hydra.overrides.task]), None)
    return jobs


def composed_job(config: DictConfig, overrides: list[str]) -> DictConfig:
    """Return the settings of a job of a sweep, without Hydra's own."""
    return without_hydra(GlobalHydra.instance().config_loader().load_sweep_config(config, overrides))


def _began_with(job: Path) -> list[str] | None:
    try:
        return _without_resume(read_yaml(job / ".hydra" / "overrides.yaml"))
    except (OSError, TypeError, ValueError):
        return None


def _without_resume(overrides: list[str]) -> list[str]:
    return [override for override in overrides if not override.startswith("resume=")]

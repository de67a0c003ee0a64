"""Shared by the programs: Hydra's arguments, errors in one line, the folder of a run, the functions of conf/."""

import functools
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hydra.utils
import psutil
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from timemachine.config import require
from timemachine.errors import SettingError, UserError, one_line, unwrapped
from timemachine.run.console import error_line
from timemachine.run.files import reject_links, weights_in
from timemachine.run.run import Run
from timemachine.run.signals import INTERRUPTED, TERMINATED, end_quietly, end_with_parent, exit_if_pipe_closed
from timemachine.run.summary import flat, is_first_process, new_summary, was_interrupted

EXTRAS = {  # word of the command line -> the module that it needs, and the extra that installs it
    "hydra/sweeper=optuna": ("hydra_plugins.hydra_optuna_sweeper", "search"),
    "hydra/sweeper=search": ("hydra_plugins.hydra_optuna_sweeper", "search"),
    "hydra/launcher=submitit_local": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    "hydra/launcher=submitit_slurm": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    "logger=tensorboard": ("tensorboard", "tensorboard"),
}


# All that differs between Hydra 1.3 and 1.4: `hydra.main` of 1.4 has no `version_base`, and OmegaConf has renamed a
# function. Hydra 1.4 also rejects each `_target_` outside `execution_whitelist`, which would be the classes that a user
# types, or names in conf/. They are the user's own, as in Hydra 1.3, and nothing of a run's folder is composed; so its
# check is disabled: no list of modules could be known before Hydra has read conf/.
if hasattr(hydra.utils, "UNSAFE_DISABLE_EXECUTION_CHECKS"):
    VERSION_BASE: dict[str, str] = {}
    HYDRA: dict[str, Any] = {"execution_whitelist": hydra.utils.UNSAFE_DISABLE_EXECUTION_CHECKS}
    register_resolver: Callable[..., None] = OmegaConf.register_resolver
else:
    HYDRA = VERSION_BASE = {"version_base": "1.3"}
    register_resolver = OmegaConf.register_new_resolver


def exit_on_setting_errors(main: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Decorate the function of `hydra.main`: a `UserError` is one line, with exit status 1.

    So are settings that OmegaConf cannot resolve, and a `MisconfigurationException`, with which Lightning rejects an
    argument. All others, such as a mistake in a custom class, are left to Hydra, which prints a short traceback. After
    Ctrl-C the exit status is 130, after the end of a pipe's reader 141. Errors of a sweep's jobs are left to
    `study.sweep.Sweep`.
    """
    end_quietly()  # when train.py is imported: Hydra composes the settings before it calls `main`
    for word, (module, extra) in EXTRAS.items():
        if word in sys.argv and not find_spec(module):
            sys.exit(error_line(f"{word}: needs packages that are not installed; type pip install -e '.[{extra}]'"))

    @functools.wraps(main)
    def call(cfg: DictConfig) -> Any:
        try:
            check_values(cfg)
            check_names(cfg)
            with exit_if_pipe_closed():
                return main(cfg)
        except (KeyboardInterrupt, SystemExit) as error:
            if was_interrupted(error):
                sys.exit(TERMINATED if error.args == (TERMINATED,) else INTERRUPTED)
            raise
        except Exception as error:
            cause = unwrapped(error)
            # By its name, since evaluate.py and generate.py need not import Lightning.
            if type(cause).__name__ == "MisconfigurationException":
                cause = UserError(one_line(cause))
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


def open_run(cfg: DictConfig) -> Run:
    """Return the run in Hydra's folder, to enter."""
    hydra_cfg = HydraConfig.get()
    if not is_first_process():
        end_with_parent()
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: an orderly end, also before the training
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    words = [*places_of_settings(hydra_cfg), *typed_words(hydra_cfg)]
    return Run(
        Path(hydra_cfg.runtime.output_dir),
        new_summary(settings, words, str(hydra_cfg.runtime.choices.get("exercise"))),
        is_job=is_job(),
        files=hydra_files(cfg),
    )


def typed_words(hydra_cfg: Any) -> list[str]:
    """Return the overrides as they were typed: OmegaConf would resolve a `${…}` in one that is read from its list."""
    return OmegaConf.to_container(hydra_cfg.overrides.task, resolve=False)  # type: ignore[return-value]


def override_name(override: str) -> str:
    """Return the name of the setting or the group in an override such as `+model.lr=1`."""
    return override.lstrip("+~").partition("=")[0]


def hydra_files(cfg: DictConfig) -> dict[str, str]:
    """Return the three files of `.hydra/`, by their paths.

    Hydra writes them before it calls the program (`hydra.output_subdir`), so that a command that is rejected would
    replace the files of the run whose folder it names.
    """
    hydra_cfg = HydraConfig.get()
    contents = {"config": cfg, "hydra": OmegaConf.create({"hydra": hydra_cfg}), "overrides": hydra_cfg.overrides.task}
    return {f".hydra/{name}.yaml": OmegaConf.to_yaml(content) for name, content in contents.items()}


def check_names(cfg: DictConfig) -> None:
    """Raise SettingError for a name that only a `+` has added: Hydra takes any, and it would have no effect.

    Of these programs only train.py passes further arguments on, to the classes of its groups, or leaves one out.
    """
    hydra_cfg = HydraConfig.get()
    is_train, task = hydra_cfg.job.name == "train", typed_words(hydra_cfg)
    for word in () if is_train else (word for word in task if word.startswith("~")):
        raise SettingError(f"{word}: this program needs all of its settings")
    if added := [override_name(word) for word in task if word.startswith("+")]:
        # Such as exercise=recall, which has its own settings; not ~model, to which +model._target_= adds again.
        composed = compose(str(hydra_cfg.job.config_name), [word for word in task if word[0] not in "+~"])
        groups = {*map(str, composed), *map(str, hydra_cfg.runtime.choices)}
        names = flat(OmegaConf.to_container(composed))  # type: ignore[arg-type]
        for name in added:
            is_known = name.partition(".")[0] in groups if is_train else name in names
            require(is_known, name, OmegaConf.select(cfg, name), "no such setting; --cfg job prints all settings")


def check_values(cfg: DictConfig) -> None:
    """Raise SettingError for a value that is missing or cannot be resolved, such as `${no_such_name}`."""
    try:
        OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise SettingError(f"{error.full_key}: {one_line(str(error).splitlines()[0])}") from error


def places_of_settings(hydra_cfg: Any) -> list[str]:
    """Return the words of the command line that say where Hydra finds files of settings."""
    name, sources = str(hydra_cfg.job.config_name), hydra_cfg.runtime.config_sources
    # Hydra lists the folders of `--config-dir` among its sources, not among the overrides.
    words = [] if name == "train" else [f"--config-name={name}"]
    words += [f"--config-dir={source.path}" for source in sources if source.provider == "command-line"]
    return words + [each for each in hydra_cfg.overrides.hydra if each.startswith("hydra.searchpath=")]


def class_of(target: Any) -> type | None:
    """Return the class of `model._target_` for a program that loads a run, None for null. Raises SettingError."""
    require(target is None or isinstance(target, str), "model._target_", target, "must be the name of a class")
    return get_class(target) if target else None


def find_run(run: str) -> Path:
    """Return the path of a run; for `latest`, the newest below outputs/. Raises SettingError if it does not exist."""
    path = newest_run() if run == "latest" and not Path(run).exists() else Path(run)
    if not run or path is None or not path.exists():  # an empty path is the working directory
        raise SettingError(f"run={run}: not found; use the folder that train.py printed at its end")
    return path


def has_weights(folder: Path) -> bool:
    """Return whether a run's folder has an export or a checkpoint."""
    return any(path.exists() for path in weights_in(folder))


def newest_run() -> Path | None:
    """Return the folder of the newest run below outputs/ that has weights, None if there is none."""
    # By the time of the last write: a run that was resumed is newer than its folder's name says.
    summaries = sorted(Path("outputs").glob("**/summary.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    return next((path.parent for path in summaries if has_weights(path.parent)), None)


class CheckFolder(Callback):
    """Hydra's callback that checks the folder before Hydra creates it or changes into it.

    Hydra turns an exception in a callback into a warning, so errors exit.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the folder of a run, and that an exercise is started as a sweep."""
        exercise = config.hydra.runtime.choices.get("exercise", "none")
        is_child = not OmegaConf.is_missing(config.hydra.job, "num")  # of a job, see `study.sweep.run_in_child`
        if exercise != "none" and not is_child:
            command = shlex.join(["python", sys.argv[0], "-m", *sys.argv[1:]])
            sys.exit(error_line(f"exercise={exercise}: an exercise is a sweep; type {command}"))
        _check_folder(config, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the folder of a sweep, before Hydra writes multirun.yaml and the jobs write into their folders."""
        _check_folder(config, "hydra.sweep.dir")
        try:
            reject_links(Path(config.hydra.sweep.dir))
        except SettingError as error:
            sys.exit(error_line(error))


def _check_folder(config: DictConfig, setting: str) -> None:
    """Exit unless the setting names a folder, which Hydra is not to change into."""
    try:
        # In its own folder, W&B and matplotlib would read settings.
        require(not config.hydra.job.chdir, "hydra.job.chdir", True, "not supported", False)
        folder = OmegaConf.select(config, setting, throw_on_missing=False)
        require(bool(folder), setting, "", "must be a folder")
    except (SettingError, OmegaConfBaseException) as error:
        sys.exit(error_line(error))


def _run_folder(new: str) -> str:
    """Return the folder of a run: one for all processes of a group, or `new`."""
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
    """Return the command line's overrides, except for loggers."""
    return " ".join(each for each in typed_words(HydraConfig.get()) if not override_name(each).startswith("logger"))


# conf/ calls these as ${name:argument}. Registered by the import of this module, since Hydra reads conf/ before `main`.
RESOLVERS: dict[str, Callable[..., Any]] = {
    "run_folder": _run_folder, "divide": _divide, "accelerator": _accelerator, "sweep_folder": _sweep_folder,
    "agents_id": _agents_id, "typed": _typed,
}  # fmt: skip
for _name, _function in RESOLVERS.items():
    register_resolver(_name, _function, replace=True)

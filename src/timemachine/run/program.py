"""Shared by the programs: errors in one line, the folder of a run and how it is resumed, the functions of conf/."""

import functools
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from timemachine.config import require
from timemachine.errors import SettingError, UserError, unwrapped
from timemachine.run.console import error_line
from timemachine.run.files import weights_in
from timemachine.run.run import Run, load_run
from timemachine.run.signals import INTERRUPTED, TERMINATED, end_quietly, end_with_parent, exit_if_pipe_closed
from timemachine.run.summary import is_first_process, new_summary, read_summary, was_interrupted

# Words of a recorded command line that a resumed run takes. The folder may be somebody else's: a group is a plain name,
# which is not a path, and a value names no class and reads no variable: Hydra reads `$\{…\}` as `${…}`.
RECORDED = re.compile(
    r"(?!.*(_target_|\$))((seed|init_from|probes|tags|optimized_metric|(model|data|trainer)\.[\w.]+)=.*"
    r"|(model|data|trainer|recipe|experiment|callbacks)=[\w,/\[\]-]*)",
    re.DOTALL,
)
GROUPS = ("callbacks", "experiment", "recipe")  # their files may add callbacks
NOT_RECORDED = re.compile(r"[+~]*(logger|hydra|resume)\b.*", re.DOTALL)  # typed words and defaults apply
PLUGINS = {  # word of the command line -> module of Hydra's plugins, and the extra that installs it
    "hydra/sweeper=": ("hydra_optuna_sweeper", "search"),
    "hydra/launcher=submitit": ("hydra_submitit_launcher", "slurm"),
}


def exit_on_setting_errors(main: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Decorate the function of `hydra.main`: a `UserError` is one line, with exit status 1.

    All others, such as a mistake in a custom class, are left to Hydra, which prints a short traceback. After Ctrl-C the
    exit status is 130, after the end of a pipe's reader 141. Errors of a sweep's jobs are left to `study.sweep.Sweep`.
    """
    end_quietly()  # when train.py is imported: Hydra composes the settings before it calls `main`
    for word, (module, extra) in PLUGINS.items():
        if any(argument.startswith(word) for argument in sys.argv) and not find_spec(f"hydra_plugins.{module}"):
            sys.exit(error_line(f"{word}: needs a plugin of Hydra; type pip install -e '.[{extra}]'"))

    @functools.wraps(main)
    def call(cfg: DictConfig) -> Any:
        try:
            check_added_names(cfg)
            with exit_if_pipe_closed():
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


def continued(cfg: DictConfig) -> DictConfig:
    """Return the settings of a run; with `resume=`, of its recorded command line and the words typed now, together.

    Raises SettingError for recorded words that have to be typed again, such as the class of a user's.
    """
    if cfg.resume is None:
        return cfg
    recorded, typed = recorded_words(), HydraConfig.get().overrides.task
    if others := [word for word in recorded if not RECORDED.fullmatch(word)]:
        # With the groups that define the settings of these words: Hydra composes the typed words alone, too.
        groups = [word for word in recorded if override_name(word) in GROUPS and RECORDED.fullmatch(word)]
        others = [*groups, *others]
        rule = f"the run was started with {shlex.join(others)}; type this as well, if it is yours"
        raise SettingError(f"resume={cfg.resume}: {rule}")
    return compose(str(HydraConfig.get().job.config_name), [*recorded, *typed])


def recorded_words() -> list[str]:
    """Return the words of the command line of the run in Hydra's folder, but for loggers and those typed again."""
    hydra_cfg = HydraConfig.get()
    typed = {*map(override_name, hydra_cfg.overrides.task), *places_of_settings(hydra_cfg)}
    words = read_summary(Path(hydra_cfg.runtime.output_dir))["overrides"]
    return [word for word in words if not {word, override_name(word)} & typed and not NOT_RECORDED.fullmatch(word)]


def open_run(cfg: DictConfig) -> Run:
    """Return the run in Hydra's folder, to enter."""
    hydra_cfg = HydraConfig.get()
    if not is_first_process():
        end_with_parent()
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: an orderly end, also before the training
    settings: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    typed = [word for word in hydra_cfg.overrides.task if override_name(word) != "resume"]
    again = [*places_of_settings(hydra_cfg), *typed]
    words = again if cfg.resume is None else [*recorded_words(), *again]
    return Run(
        Path(hydra_cfg.runtime.output_dir),
        new_summary(settings, words, str(hydra_cfg.runtime.choices.get("exercise"))),
        is_job=is_job(),
        again=again,
        files=hydra_files(cfg),
    )


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


def check_added_names(cfg: DictConfig) -> None:
    """Raise SettingError for a name that only a `+` has added: Hydra takes any, and it would have no effect."""
    hydra_cfg = HydraConfig.get()
    if added := [override_name(word) for word in hydra_cfg.overrides.task if word.startswith("+")]:
        # Such as exercise=recall, which has its own settings; not ~model, to which +model._target_= adds again.
        others = [word for word in hydra_cfg.overrides.task if word[0] not in "+~"]
        known = {*map(str, compose(str(hydra_cfg.job.config_name), others)), *map(str, hydra_cfg.runtime.choices)}
        for setting in added:
            # Of these programs only train.py passes further arguments on, to the classes of its groups.
            is_known = setting.partition(".")[0] in known and hydra_cfg.job.name == "train"
            require(is_known, setting, OmegaConf.select(cfg, setting), "no such setting; --cfg job prints all settings")


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


def newest_run(is_open: bool = False) -> Path | None:
    """Return the folder of the newest run below outputs/ that has weights, None if there is none.

    `is_open`: only of runs that have a checkpoint and have not ended.
    """
    # By the time of the last write: a run that was resumed is newer than its folder's name says.
    summaries = sorted(Path("outputs").glob("**/summary.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    folders = (path.parent for path in summaries)
    return next((folder for folder in folders if (_is_open(folder) if is_open else has_weights(folder))), None)


def _is_open(folder: Path) -> bool:
    """Return whether a run has a checkpoint and has not ended."""
    try:
        return weights_in(folder)[1].exists() and not load_run(folder).has_ended
    except SettingError:  # it cannot be read
        return False


class CheckFolder(Callback):
    """Hydra's callback that checks `resume=` and `hydra.job.chdir` before Hydra creates a folder or changes into it.

    Hydra turns an exception in a callback into a warning, so errors exit.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the folder of a run, and the folder of the run to resume."""
        try:
            # In its own folder, W&B and matplotlib would read settings.
            require(not config.hydra.job.chdir, "hydra.job.chdir", True, "not supported", False)
            require(bool(config.hydra.run.dir), "hydra.run.dir", "", "must be a folder")
            if config.resume is not None:
                _require_resumable(str(config.resume), Path(config.hydra.run.dir))
        except SettingError as error:
            sys.exit(error_line(error))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the folder of a sweep, which is resumed by the same command."""
        try:
            require(not config.hydra.job.chdir, "hydra.job.chdir", True, "not supported", False)
            require(bool(config.hydra.sweep.dir), "hydra.sweep.dir", "", "must be a folder")
            rule = "resumes a single run; to resume a sweep, repeat its command with its hydra.sweep.dir"
            require(config.resume is None, "resume", config.resume, rule)
        except SettingError as error:
            sys.exit(error_line(error))


def _require_resumable(run: str, folder: Path) -> None:
    """Raise SettingError unless `resume=run` names a run with a checkpoint."""
    if run == "latest" and not folder.exists():
        newest = newest_run()
        instead = f"; the newest run has ended: resume={newest} continues it" if newest else ""
        raise SettingError(f"resume=latest: no run below outputs/ has a checkpoint and has not ended{instead}")
    if run != "latest" and folder.resolve() != Path(run).resolve():
        raise SettingError(f"resume={run}: hydra.run.dir={folder} is another folder; use one of them")
    try:
        read_summary(folder)
    except SettingError as error:
        raise SettingError(f"resume={run}: {error}") from error
    if not weights_in(folder)[1].exists():
        raise SettingError(f"resume={run}: nothing to resume, since there is no checkpoints/last.ckpt; start it again")


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

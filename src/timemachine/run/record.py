"""summary.json: the settings, the text, the status and the results of a run, from its start to its end.

Nothing here imports torch, which takes seconds.
"""

import functools
import json
import math
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from timemachine.config import DATA, REPOSITORY, format_value
from timemachine.errors import Diverged, SettingError, UserError, one_line, unwrapped
from timemachine.run.files import relative_path, write_whole
from timemachine.run.signals import TERMINATED

ENDED = ("completed", "diverged")
NOT_FINITE = ("nan", "inf", "-inf")  # numbers that JSON lacks, as texts
LAST, EXPORT = "checkpoints/last.ckpt", "model.safetensors"
LOCK = ".lock"  # in a run's folder; the system releases it when the process ends, even if it is killed
LOCK_SECONDS = 1  # to wait for it: `is_running` takes it for a moment
PACKAGES = ("lightning", "torch", "torchmetrics", "hydra-core", "wandb", "timemachine")
# Classes that a run's folder may name: no other name in a folder is imported.
TRUSTED_CLASSES = (
    "timemachine.language_model.RNNLMScratch",
    "timemachine.kernels.language_model.FusedRNNLM",
    "timemachine.regularized.language_model.RegularizedRNNLM",
    "timemachine.datamodule.TimeMachine",
)
# Settings that make two runs the same experiment.
IDENTITY = ("seed", "init_from", "probes", "model", "data")
FIRST = ("started", "overrides", "seconds", "parent")  # of a resumed run: from its first session
# Settings that depend on the machine: where the text lies (its hash is compared), which code computes the gradients,
# where a run computes and where its files lie. With a `model_registry`, Lightning uploads checkpoints.
MACHINE_SETTINGS = re.compile(
    r"data\.(corpus|search_dirs)|model\.backward|callbacks\..*(folder|dirpath)"
    r"|trainer\.(accelerator|strategy|devices|num_nodes|plugins|profiler|model_registry)(\..*)?"
)


class Record:
    """A run's folder, its lock and its summary.json, as a context manager.

    Entering locks the folder, so that one process trains in it, and reads an earlier session's summary as `before`.
    On exit it records the status: the one set by `update`, or one derived from the exception, which is re-raised.
    Until `begin`, an earlier session's summary is not changed. Only the first process of a run writes. `typed`: the
    words of the command line, to print how to resume. `files`: contents of further files, by their paths in the folder,
    which `begin` writes. `searches`: whether a sweeper minimises the `objective`. `about`: entries of a new summary,
    such as `overrides`.

    Raises SettingError on entering, for a folder that is in use and for a damaged summary.json.
    """

    def __init__(
        self, folder: Path, settings: dict[str, Any], *, is_job: bool = False, searches: bool = False,
        typed: Sequence[str] = (), files: Mapping[str, str] | None = None, **about: Any,
    ) -> None:  # fmt: skip
        self.folder, self.settings, self.is_job, self.typed = folder, settings, is_job, typed
        self.files, self.searches = files or {}, searches
        self.writes = is_first_process()
        self.prints = self.writes and not is_job
        self.before: dict[str, Any] = {}
        self.has_begun = False
        self.completed_epochs = 0  # before this session
        started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self.summary: dict[str, Any] = {"status": "running", "message": None, "settings": settings, "metrics": {}}
        self.summary |= {"overrides": []} | about | {"started": started, "seconds": 0.0}
        self._entered, self._lock = time.time(), FileLock(folder / LOCK, timeout=LOCK_SECONDS)

    def __enter__(self) -> Self:
        if self.writes:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Timeout as error:
                rule = "another process is training in this folder; end it, or use another hydra.run.dir"
                raise SettingError(f"{relative_path(self.folder)}: {rule}") from error
        try:
            # Again, now that no other process can change it: `resume=` has read the settings without the lock.
            if (self.folder / "summary.json").exists():
                self.before = read_summary(self.folder)
        except SettingError:
            self._lock.release()
            raise
        return self

    @property
    def has_ended(self) -> bool:
        """Whether this is a job of a repeated sweep that has ended before, with the same settings.

        Raises SettingError if it has ended, or has a checkpoint to resume from, with other settings.
        """
        # Only a job: a single run is continued by `resume=`, also one that has completed.
        has_ended = self.before.get("status") in ENDED
        if not self.is_job or not (has_ended or (self.folder / LAST).exists()):
            return False
        self.require_same(*IDENTITY, "trainer", "callbacks")
        self.summary = self.before if has_ended else self.summary  # `objective` reads its metric
        return has_ended

    @property
    def objective(self) -> float:
        """The final value of `optimized_metric`, as `objective` returns it.

        Raises UserError for a run outside a sweep that has diverged, and SettingError if a search needs the metric and
        the run has not measured it.
        """
        if self.summary["status"] == "diverged" and not self.is_job:
            raise UserError(self.summary["message"])
        value = objective(self.summary)
        name, measured = metric_of(self.summary), self.summary["metrics"]
        if self.searches and self.summary["status"] == "completed" and name not in measured:
            rule = f"not measured in the last epoch, which has {', '.join(sorted(measured)) or 'no metric'}"
            raise SettingError(f"optimized_metric={name}: {rule}; use one of these")
        return value

    def require_same(self, *groups: str) -> None:
        """Raise SettingError for a setting of these groups whose value is not the recorded one."""
        both = self.before.get("settings", {}), self.settings
        recorded, now = (flat({name: _finite(settings.get(name)) for name in groups}) for settings in both)
        for name in now | recorded:
            before, typed = recorded.get(name), now.get(name)
            if before != typed and not MACHINE_SETTINGS.fullmatch(name):
                rule = f"the run in {relative_path(self.folder)} has {name}={format_value(before)}"
                raise SettingError(f"{name}={format_value(typed)}: {rule}; use this value, or another folder")

    def begin(self, model: Any, data: Any) -> None:
        """Record the text and the size of the model, with status `running`, and write `files`.

        Not earlier: a command that is rejected must not change the folder of another run. The summary of a resumed run
        keeps its first start and overrides, and lists the epochs after which it was resumed. Arguments that a callback
        has changed, such as Lightning's LearningRateFinder, are recorded as the model and the data have them.
        """
        if epoch := self.completed_epochs:
            session = {"epoch": epoch, "started": self.summary["started"]}
            first = {name: self.before[name] for name in FIRST if name in self.before}
            self.summary |= first | {"resumed": [*self.before.get("resumed", []), session]}
        # LearningRateFinder sets `model.hparams.lr`, BatchSizeFinder `data.hparams.batch_size`.
        for group, arguments in (("model", model.hparams), ("data", data.hparams)):
            numbers = {name: value for name, value in arguments.items() if isinstance(value, int | float)}
            self.settings[group] |= {name: numbers[name] for name in numbers.keys() & self.settings[group].keys()}
        for name, content in self.files.items() if self.writes else ():
            (self.folder / name).parent.mkdir(exist_ok=True)
            write_whole(self.folder / name, content.encode())
        parameters, text = sum(p.numel() for p in model.parameters()), _text_of(data, self.settings["data"])
        machine = f"{os.cpu_count()} cores, {platform.machine()}"
        versions = {"python": sys.version.split()[0]} | {package: version(package) for package in PACKAGES}
        self.update(parameters=parameters, corpus=text, versions=versions, git=_git_revision(), machine=machine)

    def update(self, **entries: Any) -> None:
        """Add entries and write summary.json, whole or not at all."""
        self.summary, self.has_begun = self.summary | entries, True
        if self.writes:
            # JSON lacks NaN, and other programs reject the `NaN` that Python writes by default.
            text = json.dumps(_finite(self.summary), indent=2, allow_nan=False) + "\n"
            write_whole(self.folder / "summary.json", text.encode())

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if self.has_begun or not self.before:  # otherwise the command was rejected, or the run ended before
                seconds = float(self.summary["seconds"] or 0) + time.time() - self._entered
                has_ended = self.summary["status"] in ENDED  # then only the upload to W&B was interrupted, for example
                status = status_and_message(error) if error and not has_ended else {}
                self.update(**status, seconds=round(seconds, 1))
        finally:
            self._lock.release()
        # After a rejection there is nothing to resume.
        if was_interrupted(error) and self.prints and self.has_begun:
            again = [each for each in self.typed if not each.startswith("resume=")]
            command = ["python", "train.py", f"resume={relative_path(self.folder)}", *again]
            print(f"resume with   {shlex.join(command)}", flush=True)


def metric_of(summary: Mapping[str, Any]) -> str:
    """Return the name of the metric that a search minimises."""
    return str(summary["settings"].get("optimized_metric", "val/perplexity"))


def objective(summary: Mapping[str, Any]) -> float:
    """Return the final value of `optimized_metric`, inf unless the run has completed: a search would stop at NaN."""
    if summary["status"] != "completed":
        return math.inf
    value = float(summary["metrics"].get(metric_of(summary), math.inf))
    return math.inf if math.isnan(value) else value


def status_and_message(error: BaseException) -> dict[str, str]:
    """Return the status and the message of a run that ended with an exception."""
    if was_interrupted(error):
        return {"status": "interrupted", "message": "interrupted"}
    # Hydra wraps an exception of a constructor in another one, whose message names the constructor only.
    error = unwrapped(error)
    message = one_line(error) if isinstance(error, UserError) else f"{type(error).__name__}: {one_line(error)}"
    return {"status": "diverged" if isinstance(error, Diverged) else "failed", "message": message}


def was_interrupted(error: BaseException | None) -> bool:
    """Return whether Ctrl-C or SIGTERM has caused an exception: Lightning makes a SystemExit of KeyboardInterrupt."""
    return isinstance(error, KeyboardInterrupt) or (
        isinstance(error, SystemExit) and (error.code == TERMINATED or isinstance(error.__context__, KeyboardInterrupt))
    )


def is_first_process() -> bool:
    """Return whether this process writes for a run, by the ranks of torchrun, Lightning and srun."""
    return not any(int(os.environ.get(rank, 0)) for rank in ("RANK", "NODE_RANK", "LOCAL_RANK", "SLURM_PROCID"))


def flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested dicts by their dotted names."""
    dotted: dict[str, Any] = {}
    for name, value in nested.items():
        dotted |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return dotted


def _finite(value: Any) -> Any:
    """Return the value with NaN and infinities, which JSON lacks, as texts."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _text_of(data: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Return summary.json's entries about the text; only a title for a custom data module.

    `arguments`: those that the settings leave to the class, such as a user's subclass of `TimeMachine`.
    """
    if (text := getattr(data, "corpus", None)) is None or not hasattr(data, "tokens_N"):
        return {"title": "your own data"}
    from timemachine.perplexity import count_unknown  # deferred: imports torch

    # The hash, since a file of the same name may change between a run and its resumption or evaluation.
    about = {name: getattr(text, name) for name in ("name", "title", "source", "sha256", "left_out")}
    about |= {"characters": len(text.characters), "tokens": len(data.tokens_N), "vocabulary": len(data.vocab)}
    unknown, size = count_unknown(text.characters, data.vocab) if data.hparams["min_count"] > 1 else (0, 0)
    names = [name for name in (*DATA, "search_dirs") if name in data.hparams and name not in settings]
    about |= {"arguments": {name: data.hparams[name] for name in names}} if names else {}
    return about | {"unknown": unknown, "unknown_bytes": size}


@functools.cache  # all jobs of a sweep run the code that was imported once
def _git_revision() -> dict[str, Any]:
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty"]
    try:
        revision = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return {"revision": None, "dirty": None}
    return {"revision": revision.removesuffix("-dirty"), "dirty": revision.endswith("-dirty")}


def read_summary(folder: Path) -> dict[str, Any]:
    """Return summary.json of a run's folder. Raises SettingError if there is none, or if it is damaged."""
    try:
        return parse_summary((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        rule = f"not a run's folder, or damaged: {one_line(error, 100)}"
        raise SettingError(f"{relative_path(folder)}: {rule}") from error


def parse_summary(text: str) -> dict[str, Any]:
    """Return a summary from its JSON, with numbers in place of the texts in `NOT_FINITE`."""
    summary: dict[str, Any] = json.loads(text)
    metrics = {name: float(value) if value in NOT_FINITE else value for name, value in summary["metrics"].items()}
    return summary | {"metrics": metrics, "settings": dict(summary["settings"]), "status": str(summary["status"])}


def with_class_defaults(summary: dict[str, Any]) -> dict[str, Any]:
    """Return a summary whose settings of the data include the arguments that the run left to the class."""
    settings = summary["settings"]
    data = summary.get("corpus", {}).get("arguments", {}) | settings.get("data", {})
    return summary | {"settings": settings | {"data": data}}


def is_running(folder: Path) -> bool:
    """Return whether a process is training in the folder. If none does and the status is `running`, it was killed."""
    if not (folder / LOCK).exists():
        return False
    # The status alone does not tell: a process that was killed has left `running`.
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except (Timeout, OSError):
        return True

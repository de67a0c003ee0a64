"""summary.json: the settings, text, status and results of a run, from its start to its end.

It is first written before anything can fail, so that a job that fails leaves its settings and a message behind. Nothing
here imports torch, which takes seconds, so that a mistake in the name of a run is reported at once.
"""

import functools
import json
import math
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock, Timeout
from safetensors import safe_open

from timemachine.config import REPOSITORY, Train, from_dict, to_dict
from timemachine.errors import Diverged, SettingError, UserError, one_line
from timemachine.run.files import cannot_write, relative_path, write_whole

if TYPE_CHECKING:  # they import torch, which takes seconds
    from timemachine.datamodule import TimeMachine
    from timemachine.language_model import RNNLMScratch

EXPORT = "model.safetensors"  # in the folder of a run that has ended: its weights, vocabulary and settings
EPOCH_WEIGHTS = "epochs.safetensors"  # in the folder of a run with a page: its weights after a few of its epochs
NOT_FINITE = ("nan", "inf", "-inf")  # numbers that JSON lacks, as texts
KINDS = {  # entry of summary.json -> its type
    "status": str, "settings": dict, "metrics": dict, "exercise": str, "overrides": list, "corpus": dict,
    "changes": list, "probes": dict, "versions": dict, "git": dict, "message": str | None, "started": str,
    "seconds": int | float, "parameters": int,
}  # fmt: skip
KINDS_OF_CORPUS = {
    "name": str, "title": str, "source": str | list, "sha256": str, "characters": int, "tokens": int, "vocabulary": int,
    "unknown": int, "unknown_bytes": int, "left_out": int,
}  # fmt: skip
LOCK = ".lock"  # in a run's folder; the system releases it when the training process ends, even if it is killed
PACKAGES = ("lightning", "torch", "torchmetrics", "hydra-core", "wandb", "timemachine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """Permissions of this process for a run, decided once in `cli.program`.

    `writes`: the process is the first of the run, and writes the files. `prints`: it also prints. A job does not, since
    the sweep prints a line for each job. `sweep`: the folder of the sweep that the run is a job of, or None; a failure
    ends only this job, and the sweep continues with the next one.
    """

    writes: bool = True
    prints: bool = True
    sweep: str | None = None


class Record:
    """Context manager that owns a run's summary.json from the run's start.

    The status is `running` until `update` sets it, or an exception does: to `diverged`, `failed` or `interrupted`.
    Raises SettingError if another process is training in the folder.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        role: Role,
        overrides: Sequence[str] = (),
        exercise: str = "none",
    ) -> None:
        self.folder, self.settings, self.role = folder, settings, role
        self.began = time.time()
        self.before: dict[str, Any] = {}  # the previous content of summary.json, if the run is resumed
        self._lock = FileLock(folder / LOCK, timeout=0)
        self.is_resumed = settings.get("resume") is not None
        if self.is_resumed:
            with suppress(OSError, ValueError):  # missing if the run was killed before it wrote anything, or damaged
                self.before = read_summary(folder)
        new = {"settings": settings, "exercise": exercise, "overrides": list(overrides)}
        # A resumed run keeps its recorded settings until `checkpoint_to_resume` has accepted the new ones. Its recorded
        # metrics are dropped, since they describe its earlier end.
        self.summary: dict[str, Any] = new | self.before | {"status": "running", "message": None, "metrics": {}}
        self.exercise, self.overrides = self.summary["exercise"], self.summary["overrides"]
        self.typed = list(overrides)  # `overrides` of a resumed run keeps its first command

    def __enter__(self) -> Self:
        if self.role.writes:
            try:
                self._lock.acquire()
            except Timeout as error:
                rule = "another process is training in this folder; end it, or use hydra.run.dir=<another>"
                raise SettingError(f"{relative_path(self.folder)}: {rule}") from error
        self.update(
            seed=self.settings["seed"],
            started=time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self.began)),
            versions={"python": sys.version.split()[0]} | {package: version(package) for package in PACKAGES},
            git=_git_revision(),
        )
        return self

    def describe(self, data: "TimeMachine", model: "RNNLMScratch") -> None:
        """Record the text and the size of the model."""
        from timemachine.perplexity import count_unknown  # deferred: imports torch, which takes seconds

        known = ("name", "title", "source", "sha256", "left_out")
        corpus = {name: getattr(data.corpus, name) for name in known}
        corpus |= {"characters": len(data.corpus.characters), "tokens": len(data.tokens_N)}
        times, size = 0, 0
        if self.settings["data"]["min_count"] > 1:  # else no character is unknown
            times, size = count_unknown(data.corpus.characters, data.vocab)
        corpus |= {"vocabulary": len(data.vocab), "unknown": times, "unknown_bytes": size}
        self.update(corpus=corpus, parameters=sum(p.numel() for p in model.parameters()))

    def update(self, **entries: Any) -> None:
        """Add entries and write the file, whole or not at all."""
        self.summary.update(entries)
        if self.role.writes:
            text = json.dumps(_finite(self.summary), indent=2, allow_nan=False) + "\n"
            write_whole(self.folder / "summary.json", text.encode())

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        """Record how the run ended. Return True to suppress the error of a job, so that the sweep's next job runs."""
        seconds = round(time.time() - self.began, 1)
        try:
            if error is None:
                self.update(seconds=seconds)
                return False
            with suppress(OSError):  # if the disk is full, the error that ended the run says so already
                self._write_end(error, seconds)
        finally:
            self._lock.release()
        is_interrupted, is_full = isinstance(error, KeyboardInterrupt | SystemExit), cannot_write(self.folder, error)
        if self.role.sweep is not None and not is_interrupted:
            if not (is_full or isinstance(error, UserError)):
                traceback.print_exception(error)
            return True  # after an exception, Hydra would not call `on_multirun_end`, which writes the table
        can_resume = "corpus" in self.summary  # the run has read its text
        if (is_interrupted or is_full) and can_resume and self.role.writes and self.role.sweep is None:
            print(f"resume with   python train.py resume={relative_path(self.folder)}")
        return False

    def _write_end(self, error: BaseException, seconds: float) -> None:
        is_refused = isinstance(error, SettingError)
        if is_refused and self.before:
            self.summary = self.before  # a rejected setting leaves the resumed run unchanged
            self.update()
        elif isinstance(error, KeyboardInterrupt | SystemExit) and self.summary["status"] != "running":
            self.update(seconds=seconds)  # only the upload to W&B was interrupted, after the end of the run
        else:
            status, message = status_and_message(error)
            self.update(status=status, message=message, seconds=seconds)


def status_and_message(error: BaseException) -> tuple[str, str]:
    """Return the status and the message of a run that ended with an error."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "interrupted", "interrupted"
    status = "diverged" if isinstance(error, Diverged) else "failed"
    if isinstance(error, OSError) and error.strerror:
        return status, error.strerror
    return status, str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def objective(summary: Mapping[str, Any]) -> float:
    """Return the objective of a search: the validation perplexity of a completed run, otherwise inf.

    Hydra's sweeper for Optuna would stop at NaN.
    """
    is_completed = summary["status"] == "completed"
    return float(summary["metrics"].get("val/perplexity", math.inf)) if is_completed else math.inf


def _finite(value: Any) -> Any:
    """Return the value with NaN and infinities, which JSON lacks, as the texts "nan", "inf" and "-inf"."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@functools.cache  # all jobs of a sweep run the code that was imported once
def _git_revision() -> dict[str, Any]:
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty"]
    try:
        revision = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return {"revision": None, "dirty": None}
    return {"revision": revision.removesuffix("-dirty"), "dirty": revision.endswith("-dirty")}


# Read


def read_summary(folder: Path) -> dict[str, Any]:
    """Return summary.json of a run's folder, its metrics as numbers.

    Raises OSError if it cannot be read, and ValueError if it is not a run's.
    """
    path = folder / "summary.json"
    try:
        return _checked(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not the summary of a run: {error}") from error


def _checked(summary: Any) -> dict[str, Any]:
    """Return a summary, its metrics as numbers. Raises ValueError for a missing entry, or one of the wrong type."""
    if not isinstance(summary, dict) or not {"status", "settings", "metrics"} <= summary.keys():
        raise ValueError("entries are missing")
    for found, kinds in ((summary, KINDS), (summary.get("corpus", {}), KINDS_OF_CORPUS)):
        for name, kind in kinds.items():
            if name in found and not isinstance(found[name], kind):
                raise ValueError(f"{name} has the wrong type")
    if "started" in summary:
        datetime.fromisoformat(summary["started"])  # raises ValueError for another text
    metrics = {name: float(it) if it in NOT_FINITE else it for name, it in summary["metrics"].items()}
    if not all(isinstance(value, int | float) for value in metrics.values()):
        raise ValueError("a metric is not a number")
    return summary | {"metrics": metrics}


def is_running(folder: Path) -> bool:
    """Return whether a process is training in the folder. If none does and the status is `running`, it was killed."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except (Timeout, OSError):
        return True


def run_summary(run: str, setting: str = "run") -> dict[str, Any]:
    """Return the summary of the run that a setting names.

    `run`: the run's folder, which may contain only the exported model; one of its checkpoints; or the exported model.
    Raises SettingError if it is none of these, or if the run ended before it had read its text.
    """
    path = Path(run)
    if not os.path.exists(path):
        raise SettingError(f"{setting}={run}: not found; use the folder that train.py printed at its end")
    try:
        if not (path / "summary.json").exists() and (path / EXPORT).is_file():
            path = path / EXPORT
        if path.is_file() and path.suffix != ".ckpt":
            with safe_open(path, framework="numpy") as file:
                summary = _checked(json.loads(file.metadata()["summary"]))
        else:
            summary = read_summary(folder_of(path))
        if "corpus" in summary and not {"name", "title", "source", "sha256"} <= summary["corpus"].keys():
            raise ValueError("entries of corpus are missing")
        summary["settings"] = to_dict(from_dict(Train, summary["settings"]))  # checked against the schema
    except Exception as error:  # damaged bytes raise anything
        rule = f"is not a run's folder, checkpoint or export, or is damaged: {one_line(error, 100)}"
        raise SettingError(f"{setting}={run}: {rule}; use the folder that train.py printed at its end") from error
    if "corpus" not in summary:
        raise SettingError(f"{setting}={run}: this run has not read its text, or ended before it did; use another")
    return summary


def newest_run(argument: str) -> Path:
    """Return the folder of the newest run under outputs/. Raises SettingError, with the argument, if there is none."""
    for path in sorted(Path("outputs").glob("*/*/summary.json"), reverse=True):  # outputs/<date>/<time>
        with suppress(ValueError):  # a damaged file
            if "corpus" in read_summary(path.parent):  # otherwise the run ended before it had read its text
                return path.parent
    raise SettingError(f"{argument}: no run found under outputs/; use the folder of a run")


def folder_of(run: Path) -> Path:
    """Return the folder of a run, given the folder itself, one of its checkpoints or its export."""
    return run if run.is_dir() else next((it for it in run.parents if (it / "summary.json").exists()), run.parent)


def flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested dicts by their dotted names."""
    dotted: dict[str, Any] = {}
    for name, value in nested.items():
        dotted |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return dotted

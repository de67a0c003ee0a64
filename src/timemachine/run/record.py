"""summary.json: the settings, text and end of a run, written from its first moment on, and read by everything else.

It is written before anything can fail, so that a job that dies leaves its settings and its message behind. Nothing here
imports torch, which takes seconds: a mistake in the name of a run is found before.
"""

import functools
import json
import math
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock, Timeout
from safetensors import safe_open

from timemachine.config import REPOSITORY, Train, from_dict, to_dict
from timemachine.errors import Diverged, SettingError, UserError
from timemachine.run.files import cannot_write, shown, write_whole

if TYPE_CHECKING:  # they import torch, which takes seconds
    from timemachine.datamodule import TimeMachine
    from timemachine.language_model import RNNLMScratch

EXPORT = "model.safetensors"  # in a run's folder, once it has ended: its weights, vocabulary and settings
EPOCH_WEIGHTS = "epochs.safetensors"  # in the folder of a run that has a page: its weights after a few epochs
NOT_FINITE = ("nan", "inf", "-inf")  # numbers that JSON cannot have
KINDS = {  # entry of summary.json -> its type
    "status": str, "settings": dict, "metrics": dict, "exercise": str, "overrides": list, "corpus": dict,
    "changes": list, "probes": dict, "versions": dict, "git": dict,
}  # fmt: skip
KINDS_OF_CORPUS = {
    "name": str, "title": str, "source": str | list, "sha256": str, "characters": int, "tokens": int, "vocabulary": int,
    "unknown": int, "unknown_bytes": int, "left_out": int,
}  # fmt: skip
LOCK = ".lock"  # in a run's folder: held as long as the process that trains there lives, however that ends
PACKAGES = ("lightning", "torch", "torchmetrics", "hydra-core", "wandb", "timemachine")


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What this process may do for a run. `cli.program` decides it once.

    `writes`: it is the first process of the run, which writes the files. `prints`: it also prints; of a job the sweep
    prints one line. `sweep`: the folder of the sweep that the run is a job of, or None; a failure ends this job only,
    and the sweep continues with the next one.
    """

    writes: bool = True
    prints: bool = True
    sweep: str | None = None


class Record:
    """Context manager that owns a run's summary.json, from the run's first moment on.

    The status is `running` until somebody sets it, or an exception: `diverged`, `failed` or `interrupted`. Raises
    SettingError if another process trains in the folder.
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
        self.before: dict[str, Any] = {}  # what summary.json said, if the run is resumed
        self._lock = FileLock(folder / LOCK, timeout=0)
        self.is_resumed = settings.get("resume") is not None
        if self.is_resumed:
            with suppress(OSError, ValueError):  # it was killed before it wrote anything; or is damaged
                self.before = read_summary(folder)
        new = {"settings": settings, "exercise": exercise, "overrides": list(overrides)}
        # A resumed run keeps the settings on record until `checkpoint_to_resume` has accepted the ones typed now. The
        # metrics on record are of its earlier end.
        self.summary: dict[str, Any] = new | self.before | {"status": "running", "message": None, "metrics": {}}
        self.exercise, self.overrides = self.summary["exercise"], self.summary["overrides"]

    def __enter__(self) -> Self:
        if self.role.writes:
            try:
                self._lock.acquire()
            except Timeout as error:
                instead = "end it, or type hydra.run.dir=<another>"
                raise SettingError(f"{shown(self.folder)}: another process trains in this folder; {instead}") from error
        self.update(
            seed=self.settings["seed"],
            started=time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self.began)),
            versions={"python": sys.version.split()[0]} | {package: version(package) for package in PACKAGES},
            git=_git_revision(),
        )
        return self

    def describe(self, data: "TimeMachine", model: "RNNLMScratch") -> None:
        """Record the text and the size of the model."""
        from timemachine.perplexity import count_unknown  # it imports torch, which takes seconds

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
        """Write down how the run ended. Return True if the error ends here: the next job of the sweep runs."""
        seconds = round(time.time() - self.began, 1)
        try:
            if error is None:
                self.update(seconds=seconds)
                return False
            with suppress(OSError):  # a full disk: the error that ends the run names it
                self._write_end(error, seconds)
        finally:
            self._lock.release()
        is_interrupted, is_full = isinstance(error, KeyboardInterrupt | SystemExit), cannot_write(self.folder, error)
        if self.role.sweep is not None and not is_interrupted:
            if not (is_full or isinstance(error, UserError)):
                traceback.print_exception(error)
            return True
        if (is_interrupted or is_full) and self.role.writes and self.role.sweep is None:
            print(f"resume with   python train.py resume={shown(self.folder)}")
        return False

    def _write_end(self, error: BaseException, seconds: float) -> None:
        is_refused = isinstance(error, SettingError)
        if is_refused and self.before:
            self.summary = self.before  # which stays as it was
            self.update()
        elif isinstance(error, KeyboardInterrupt | SystemExit) and self.summary["status"] != "running":
            self.update(seconds=seconds)  # the run itself was complete, W&B's upload was not
        else:
            status, message = status_and_message(error)
            self.update(status=status, message=message, seconds=seconds)


def status_and_message(error: BaseException) -> tuple[str, str]:
    """Return status and message of a run that the error ended."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "interrupted", "interrupted"
    status = "diverged" if isinstance(error, Diverged) else "failed"
    if isinstance(error, OSError) and error.strerror:
        return status, error.strerror
    return status, str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def objective(summary: Mapping[str, Any]) -> float:
    """Return the objective of a search: the validation perplexity of a completed run, inf for any other."""
    is_completed = summary["status"] == "completed"
    return float(summary["metrics"].get("val/perplexity", math.inf)) if is_completed else math.inf


def _finite(value: Any) -> Any:
    """Return the value as JSON can have it: NaN and the infinities become the texts "nan", "inf", "-inf"."""
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
    """Return summary.json of a run's folder, its metrics as numbers. Raises OSError or ValueError if there is none."""
    path = folder / "summary.json"
    try:
        return _checked(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not a run's: {error}") from error


def _checked(summary: Any) -> dict[str, Any]:
    """Return a summary, its metrics as numbers. Raises ValueError for an entry that is missing or of another kind."""
    if not isinstance(summary, dict) or not {"status", "settings", "metrics"} <= summary.keys():
        raise ValueError("entries are missing")
    for found, kinds in ((summary, KINDS), (summary.get("corpus", {}), KINDS_OF_CORPUS)):
        for name, kind in kinds.items():
            if name in found and not isinstance(found[name], kind):
                raise ValueError(f"{name} is of another kind")
    metrics = {name: float(it) if it in NOT_FINITE else it for name, it in summary["metrics"].items()}
    if not all(isinstance(value, int | float) for value in metrics.values()):
        raise ValueError("a metric is not a number")
    return summary | {"metrics": metrics}


def is_running(folder: Path) -> bool:
    """Return whether a process trains in the folder. Where the status is `running` and none does, it was killed."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except (Timeout, OSError):
        return True


def run_summary(run: str, setting: str = "run") -> dict[str, Any]:
    """Return the summary of the run that the setting names: a folder, also one with nothing but an exported model, one
    of its checkpoints, or the exported model.

    Raises SettingError where there is none, or one of a run that had not begun.
    """
    path = Path(run)
    try:
        if not (path / "summary.json").exists() and (path / EXPORT).is_file():
            path = path / EXPORT
        if path.is_file() and path.suffix != ".ckpt":
            with safe_open(path, framework="numpy") as file:
                summary = _checked(json.loads(file.metadata()["summary"]))
        else:
            summary = read_summary(folder_of(path))
        if "corpus" in summary and not {"name", "title", "source", "sha256"} <= summary["corpus"].keys():
            raise ValueError("corpus lacks an entry")
        summary["settings"] = to_dict(from_dict(Train, summary["settings"]))  # checked against the schema
    except Exception as error:  # damaged bytes raise anything
        rule = "is not a run's folder, checkpoint or export; type the folder that train.py printed at its end"
        raise SettingError(f"{setting}={run}: {rule}") from error
    if "corpus" not in summary:
        raise SettingError(f"{setting}={run}: has not read its text yet, or ended before; use another run")
    return summary


def newest_run(argument: str) -> Path:
    """Return the newest folder of a run under outputs/. Raises SettingError, about the argument, if there is none."""
    for path in sorted(Path("outputs").glob("*/*/summary.json"), reverse=True):  # outputs/<date>/<time>
        with suppress(ValueError):  # a damaged file
            if "corpus" in read_summary(path.parent):  # else the run ended before it had read its text
                return path.parent
    raise SettingError(f"{argument}: no run found under outputs/; use the folder of a run")


def folder_of(run: Path) -> Path:
    """Return the folder of a run: itself, or that in which one of its checkpoints or its export lies."""
    return run if run.is_dir() else next((it for it in run.parents if (it / "summary.json").exists()), run.parent)


def flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values under dotted names."""
    dotted: dict[str, Any] = {}
    for name, value in nested.items():
        dotted |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return dotted

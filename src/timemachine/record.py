"""summary.json: what a run is and how it ended, from its first moment on.

It is written before anything can fail, so that a job that dies leaves its settings and its message behind.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout
from omegaconf import OmegaConf
from safetensors import safe_open

from timemachine.config import REPOSITORY, Data, SettingError, UserError
from timemachine.files import read_json, write_whole

PACKAGES = ("lightning", "torch", "torchmetrics", "hydra-core", "wandb", "timemachine")


def is_first_process() -> bool:
    """Whether this is the process that writes and speaks for a run: torchrun's, Lightning's and srun's variables say.

    Lightning has the same test, and takes seconds to import.
    """
    return not any(int(os.environ.get(rank, 0)) for rank in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


SWEEP = "TIMEMACHINE_SWEEP"  # in the environment of a job that is a program of its own: the process that started it


def is_job() -> bool:
    """Whether a sweep has started this program."""
    return os.environ.get(SWEEP) == str(os.getppid())


class Signalled(SystemExit):
    """Ctrl-C, SIGTERM, or SIGUSR1, by which Slurm announces the end of a job's time.

    The exit status is the shell's for it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


class Record:
    """A context: the status is `running` until its user says how it ended, or an exception does: `diverged`, `failed`,
    `interrupted`.

    In a sweep (`in_sweep`) a failure is written down and printed, and ends there: the next job runs. Only the first
    process of a distributed run writes.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], in_sweep: bool) -> None:
        self.folder = folder
        self.in_sweep = in_sweep
        self.began = time.time()
        self.writes = is_first_process()
        self._lock = FileLock(folder / ".lock", timeout=0)  # gone with the process, however that ends
        self._last_checkpoint = folder / "checkpoints" / "last.ckpt"
        self.before: dict[str, Any] = {}  # of a run that goes on
        self._refused: SettingError | None = None
        if goes_on(settings) and self._last_checkpoint.is_file():
            try:
                self.before = run_summary(os.path.relpath(folder), "resume")
            except SettingError as error:
                if not in_sweep:  # where others go on
                    raise
                self._refused = error
        elif goes_on(settings):
            with suppress(OSError, ValueError):
                self.before = read_summary(folder)
        now = {"status": "running", "message": None, "settings": settings}
        self.summary: dict[str, Any] = now | {"metrics": {}} | self.before | now

    def __enter__(self) -> Self:
        if self.writes:
            try:
                self._lock.acquire()
            except Timeout as error:
                folder = os.path.relpath(self.folder)
                raise SettingError(
                    f"{folder}: another process trains in this folder; end it, or type hydra.run.dir=<another>"
                ) from error
        self.update(
            seed=self.summary["settings"]["seed"],
            started=time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self.began)),
            versions={"python": sys.version.split()[0]} | {package: version(package) for package in PACKAGES},
            git=_git_revision(),
        )
        return self

    def update(self, **entries: Any) -> None:
        """Add entries and write the file, of which a reader never sees half."""
        self.summary.update(entries)
        if self.writes:
            text = json.dumps(_finite(self.summary), indent=2, allow_nan=False) + "\n"
            write_whole(self.folder / "summary.json", text.encode())

    def checkpoint_to_resume(self) -> Path | None:
        """The last checkpoint of a run that goes on. Where it has none, what it left is removed, and it begins anew.

        Raises SettingError where it has none and has trained for more than an epoch: that would be lost. Not so for
        what Slurm or a sweep begins again if it keeps no checkpoints, such as a job of an exercise.
        """
        if self._refused is not None:
            raise self._refused
        settings = self.summary["settings"]
        if not goes_on(settings):
            return None
        folder = os.path.relpath(self.folder)
        if (last := self._last_checkpoint).is_file():
            return last
        metrics = self.folder / "metrics.csv"
        keeps_none = settings.get("trainer", {}).get("enable_checkpointing") is False
        expendable = keeps_none and (self.in_sweep or settings.get("resume") is None)
        if not expendable and metrics.is_file() and metrics.read_bytes().count(b"\n") > 2:  # more than an epoch
            raise SettingError(f"resume={folder}: has trained, but has no checkpoints/last.ckpt; type another run")
        if self.writes:
            begin_anew(self.folder)
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            return self._end(error)
        finally:
            self._lock.release()

    def _end(self, error: BaseException | None) -> bool:
        """Whether the error ends here."""
        seconds = round(time.time() - self.began, 1)
        if error is None:
            self.update(seconds=seconds)
            return False
        status, message = outcome(error)
        interrupted = status == "interrupted"
        if interrupted and self.summary["status"] != "running":  # only W&B was not yet through
            status, message = self.summary["status"], self.summary["message"]
        if isinstance(error, OSError) and error.filename is None:  # such as on a full disk
            error.filename = os.path.relpath(self.folder)
        is_search = self.in_sweep and not (self.folder.parent / "multirun.yaml").exists()  # which begins anew
        if (status == "interrupted" or isinstance(error, OSError)) and self.writes and not is_search:
            folder = os.path.relpath(self.folder.parent if self.in_sweep else self.folder)
            print(f"go on with    {'the same command and ' if self.in_sweep else 'python train.py '}resume={folder}")
        with suppress(OSError):  # a full disk: the error that ends the run says so
            if self.before and isinstance(error, SettingError):  # refused: it stays what it was
                self.summary = self.before
                self.update()
            else:
                self.update(status=status, message=message, seconds=seconds)
        if isinstance(error, SystemExit) and not isinstance(error, Signalled):
            raise KeyboardInterrupt from error
        if not self.in_sweep or interrupted:
            return False
        print(f"job {self.folder.name}: {status}: {message}", file=sys.stderr)
        if not isinstance(error, UserError | OSError):
            traceback.print_exception(error)
        return True


def outcome(error: BaseException) -> tuple[str, str]:
    """Status and message of a run that the error ended."""
    if isinstance(error, KeyboardInterrupt | SystemExit):  # Lightning turns Ctrl-C into an exit
        return "interrupted", "interrupted"
    status = "diverged" if type(error).__name__ == "Diverged" else "failed"
    if isinstance(error, OSError) and error.strerror:
        return status, error.strerror
    return status, str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def read_summary(folder: Path) -> dict[str, Any]:
    """summary.json of a run. Raises OSError or ValueError where there is none that can be read."""
    summary = _summary(folder)
    for name, kind in {"status": str, "settings": dict, "metrics": dict}.items():
        if not isinstance(summary.get(name), kind):
            raise ValueError(f"{folder}/summary.json has no {name}")
    return summary


def _summary(folder: Path) -> dict[str, Any]:
    summary = read_json(folder / "summary.json")
    if not isinstance(summary, dict):
        raise ValueError(f"{folder}/summary.json is not a run's summary")
    return summary


def end_for(folder: Path, status: str, message: str) -> bool:
    """Say how a run ended that could not do that itself; whether it had to be said. Raises OSError or ValueError."""
    summary = read_summary(folder)
    if summary["status"] not in ("running", "interrupted"):
        return False
    Record(folder, summary["settings"], in_sweep=True).update(**summary | {"status": status, "message": message})
    return True


def goes_on(settings: Mapping[Any, Any]) -> bool:
    """Whether the run may have begun before in its folder: `resume=`, or Slurm has put its job back into the queue."""
    return settings.get("resume") is not None or int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0


def begin_anew(folder: Path) -> None:
    """Remove what a run that cannot go on has left."""
    for name in ("checkpoints", "wandb", "tensorboard"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("metrics.csv", "steps.csv"):
        (folder / name).unlink(missing_ok=True)


def is_done(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether a job of a sweep with these settings has ended in the folder before.

    Raises SettingError where a job had other settings.
    """
    if not goes_on(settings):
        return False
    try:
        summary = read_summary(folder)
    except (OSError, ValueError):
        return False
    before = summary["settings"] | {"resume": settings["resume"]}
    if before != settings:
        raise SettingError(
            f"resume={settings['resume']}: its job {folder.name} has other settings; type the command that began it"
        )
    return summary["status"] in ("completed", "diverged")


def run_summary(run: str, setting: str = "run") -> dict[str, Any]:
    """summary.json of the run that a setting names, or what an exported model has of it.

    Raises SettingError where there is none, or one that does not say on what the run was trained.
    """
    path = Path(run)
    try:
        if path.is_file() and path.suffix == ".safetensors":
            with safe_open(path, framework="numpy") as file:
                summary: dict[str, Any] = json.loads((file.metadata() or {})["summary"])
        else:
            summary = _summary(path)
    except Exception as error:  # what a stranger wrote raises anything
        raise SettingError(
            f"{setting}={run}: is no folder of a run; type {setting}=<the folder that train.py printed at its end>"
        ) from error
    if "corpus" not in summary:
        raise SettingError(f"{setting}={run}: ended before it had a text ({summary.get('message')}); type another run")
    try:
        OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Data), summary["settings"]["data"]))
        if not all(str.isprintable(summary["corpus"][name]) for name in ("source", "sha256")):
            raise TypeError("the text has no name")
        if not isinstance(summary.get("metrics", {}), dict):
            raise TypeError("it has no numbers")
    except Exception as error:  # what a stranger wrote raises anything
        reason = " ".join(str(error).split("\n")[0].split())
        raise SettingError(f"{setting}={run}: its summary is damaged ({reason}); type another run") from error
    return summary


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become the texts "nan", "inf", "-inf"."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _git_revision() -> dict[str, Any]:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", REPOSITORY, *arguments], capture_output=True, text=True, timeout=5, check=True
        ).stdout.strip()

    try:
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return {"revision": None, "dirty": None}

"""summary.json: what a run is and how it ended, from its first moment on.

It is written before anything can fail, so that a job that dies leaves its settings and its message behind.
"""

import functools
import json
import math
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock, Timeout

from timemachine.config import REPOSITORY
from timemachine.errors import Diverged, SettingError, UserError
from timemachine.runs.files import cannot_write, shown, write_whole
from timemachine.runs.processes import Signalled, is_first_process, is_job
from timemachine.runs.summaries import read_summary, run_summary

if TYPE_CHECKING:  # they import torch, which takes seconds
    from timemachine.datamodule import TimeMachine
    from timemachine.language_model import RNNLMScratch

PACKAGES = ("lightning", "torch", "torchmetrics", "hydra-core", "wandb", "timemachine")


class Record:
    """A context: the status is `running` until its user says how it ended, or an exception does: `diverged`, `failed`,
    `interrupted`.

    In a sweep (`in_sweep`) a failure is written down and printed, and ends there: the next job runs. Only the first
    process of a distributed run writes.
    """

    def __init__(
        self,
        folder: Path,
        settings: dict[str, Any],
        in_sweep: bool,
        overrides: Sequence[str] = (),
        exercise: str = "none",
        group: str | None = None,
        beside_others: bool = False,
    ) -> None:
        self.folder = folder
        self.in_sweep = in_sweep
        self.overrides = list(overrides)  # what was typed
        self.exercise = exercise
        self.group = group  # the sweep's folder
        # Whether it prints nothing but its mistakes: a sweep has a line for each job.
        self.quiet = beside_others or exercise != "none"
        self.began = time.time()
        self.writes = is_first_process()
        self._lock = FileLock(folder / ".lock", timeout=0)  # gone with the process, however that ends
        self.last_checkpoint = folder / "checkpoints" / "last.ckpt"
        self.before: dict[str, Any] = {}  # what summary.json said, if the run is resumed
        self.refused: SettingError | None = None  # why it cannot be
        if is_resumed(settings) and self.last_checkpoint.is_file():
            try:
                self.before = run_summary(shown(folder), "resume")
            except SettingError as error:
                if not in_sweep:  # where other jobs go on
                    raise
                self.refused = error
        elif is_resumed(settings):
            with suppress(OSError, ValueError):
                self.before = read_summary(folder)
        now = {"status": "running", "message": None, "settings": settings}
        self.summary: dict[str, Any] = now | {"metrics": {}} | self.before | now

    def __enter__(self) -> Self:
        if self.writes:
            try:
                self._lock.acquire()
            except Timeout as error:
                folder = shown(self.folder)
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

    def describe(self, data: "TimeMachine", model: "RNNLMScratch") -> None:
        """Write down the text, what the frequencies of its letters give, and the size of the model."""
        from timemachine.runs.letters import letters_perplexity  # it imports torch, which takes seconds

        known = ("name", "title", "source", "sha256", "left_out", "stands_in")
        corpus = {name: getattr(data.corpus, name) for name in known}
        corpus |= {"characters": len(data.chars_N), "vocabulary": len(data.vocab)}
        corpus["letters"] = {f"{split}/perplexity": letters_perplexity(data, split) for split in ("train", "val")}
        self.update(corpus=corpus, parameters=sum(p.numel() for p in model.parameters()))

    def update(self, **entries: Any) -> None:
        """Add entries and write the file, of which a reader never sees half."""
        self.summary.update(entries)
        if self.writes:
            text = json.dumps(_finite(self.summary), indent=2, allow_nan=False) + "\n"
            write_whole(self.folder / "summary.json", text.encode())

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
        if isinstance(error, SettingError) and not (self.in_sweep or is_job() or is_resumed(self.summary["settings"])):
            self._withdraw()
            return False
        status, message = outcome(error)
        interrupted = status == "interrupted"
        if interrupted and self.summary["status"] != "running":  # only W&B was not yet through
            status, message = self.summary["status"], self.summary["message"]
        is_told = cannot_write(self.folder, error)
        if (interrupted or is_told) and self.writes and not (self.in_sweep or is_job()):
            print(f"go on with    python train.py resume={shown(self.folder)}")
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
        if not (is_told or isinstance(error, UserError)):
            traceback.print_exception(error)
        return True

    def _withdraw(self) -> None:
        """Remove what a run has left that is refused: a command that is refused changes nothing."""
        if self.writes:
            for name in (".hydra", "wandb", "tensorboard"):
                shutil.rmtree(self.folder / name, ignore_errors=True)
            for name in ("summary.json", ".lock"):
                (self.folder / name).unlink(missing_ok=True)
            if self.folder.absolute() != Path.cwd():
                with suppress(OSError):  # it has other files
                    self.folder.rmdir()


def outcome(error: BaseException) -> tuple[str, str]:
    """Status and message of a run that the error ended."""
    if isinstance(error, KeyboardInterrupt | SystemExit):  # Lightning turns Ctrl-C into an exit
        return "interrupted", "interrupted"
    status = "diverged" if isinstance(error, Diverged) else "failed"
    if isinstance(error, OSError) and error.strerror:
        return status, error.strerror
    return status, str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"


def is_locked(folder: Path) -> bool:
    """Return whether a process trains in the folder."""
    lock = folder / ".lock"
    if not lock.exists():
        return False
    try:
        FileLock(lock, timeout=0).acquire().lock.release()
    except Timeout:
        return True
    return False


def is_resumed(settings: Mapping[Any, Any]) -> bool:
    """Whether the run may have begun before in its folder: `resume=`, or Slurm has put its job back into the queue."""
    return settings.get("resume") is not None or int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become the texts "nan", "inf", "-inf"."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@functools.cache  # the code that has been imported stays what it is, for all jobs of a sweep
def _git_revision() -> dict[str, Any]:
    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", REPOSITORY, *arguments], capture_output=True, text=True, timeout=5, check=True
        ).stdout.strip()

    try:
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return {"revision": None, "dirty": None}

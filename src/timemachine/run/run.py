"""A run's folder. No other code knows the names and the contents of its files.

Nothing here imports torch, which takes seconds.
"""

import json
import math
import os
import platform
import re
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock, Timeout

from timemachine.config import DATA, Tokens, format_value, windows_of
from timemachine.errors import OtherRun, SettingError, UserError
from timemachine.run.console import folder_word
from timemachine.run.files import reject_links, relative_path, weights_in, write_whole
from timemachine.run.summary import (
    Summary,
    about_text,
    finite,
    flat,
    git_revision,
    is_first_process,
    parse_summary,
    read_summary,
    status_and_message,
    versions,
)
from timemachine.run.tables import COLUMNS, Row, append_rows, read_rows, write_rows

if TYPE_CHECKING:
    from timemachine.datamodule import TimeMachine
    from timemachine.language_model import RNNLMScratch
    from timemachine.vocab import Vocab

METRIC = "val/perplexity"  # of runs that record no `optimized_metric`
ENDED = ("completed", "diverged")
LOCK_SECONDS = 1  # to wait for the lock: `is_running` takes it for a moment
# Settings that make two runs the same experiment.
IDENTITY = ("seed", "init_from", "optimized_metric", "model", "data")
FIRST = ("started", "seconds", "parent")  # of a resumed run: from its first session
# Settings that depend on the machine: where the text lies (its hash is compared), which code computes the gradients,
# where a run computes and where its files lie. With a `model_registry`, Lightning uploads checkpoints.
MACHINE_SETTINGS = re.compile(
    r"data\.(corpus|search_dirs)|model\.backward|callbacks\..*(folder|dirpath)"
    r"|trainer\.(accelerator|strategy|devices|num_nodes|plugins|profiler|model_registry)(\..*)?"
)


class Run:
    """A run's folder: to read it, `load_run(folder)`; to train in it, a context manager, see `run.program.open_run`.

    `summary`: the content of summary.json. `curves`: the rows of metrics.csv, one per validation or epoch.
    `model`, `vocab` and `data` are loaded on first use.

    Entering locks the folder, so that one process trains in it. On exit the status is recorded: the one in `summary`,
    or one derived from the exception, which is re-raised. Until `begin`, nothing in the folder is changed. Only the
    first process of a run writes.
    """

    def __init__(
        self, folder: Path, summary: Summary, *, weights: Path | None = None, model_class: type | None = None,
        is_job: bool = False, files: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """`weights`: the file of the model, if only that one is read. `model_class`: its class, if it is a user's.

        The others are of a run that trains. `is_job`: it is a job of a sweep. `files`: contents of further files, by
        their paths in the folder.
        """
        self.folder, self.summary, self.weights, self.model_class = folder, summary, weights or folder, model_class
        self.is_job, self.files = is_job, files or {}
        self.writes = is_first_process()
        self.prints = self.writes and not is_job
        self.before: Summary = {}  # of an earlier session
        self.has_begun = False
        self.found: list[str] = []  # words that set what a tuner has found
        self.completed_epochs = 0  # before this session
        self._columns = {*COLUMNS["metrics.csv"]}
        self._entered, self._lock = time.monotonic(), FileLock(folder / ".lock", timeout=LOCK_SECONDS)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings, nested as in conf/."""
        return self.summary["settings"]

    @property
    def metrics(self) -> dict[str, int | float]:
        """The final numbers, {} before the run has ended."""
        return self.summary["metrics"]

    @property
    def metric(self) -> str:
        """The name of the metric that a search minimises."""
        return str(self.settings.get("optimized_metric", METRIC))

    @property
    def has_ended(self) -> bool:
        """Whether the run completed or diverged, which is a result as well."""
        return self.summary["status"] in ENDED

    @property
    def last_checkpoint(self) -> Path:
        """The path of the checkpoint to resume from."""
        return weights_in(self.folder)[1]

    # Reading

    @cached_property
    def curves(self) -> list[Row]:
        """The rows of metrics.csv, with NaN where nothing was measured."""
        return read_rows(self.folder / "metrics.csv")

    @cached_property
    def _loaded(self) -> "tuple[RNNLMScratch, Vocab]":
        from timemachine.run.weights import load_model  # imports torch

        return load_model(self.weights, self.model_class)

    @property
    def model(self) -> "RNNLMScratch":
        """The model after its last epoch, in evaluation mode. Raises SettingError if the run has none."""
        return self._loaded[0]

    @property
    def vocab(self) -> "Vocab":
        """The model's vocabulary. Raises SettingError as `model` does."""
        return self._loaded[1]

    @cached_property
    def data(self) -> "TimeMachine":
        """The run's windows, shuffled as in its first epoch. Raises SettingError for a text that has changed."""
        from timemachine.corpus import find_corpus
        from timemachine.datamodule import TimeMachine  # imports torch

        about, settings = self.summary["corpus"], self.settings["data"]
        corpus = find_corpus(about["source"], settings["search_dirs"], Tokens(settings["tokens"]))
        if corpus.sha256 != about["sha256"]:
            raise SettingError(f"data.corpus={about['source']}: the run's text has changed; restore the file")
        return TimeMachine(**windows_of(settings), corpus=corpus, seed=settings.get("seed", self.settings["seed"]))

    # Training

    def __enter__(self) -> Self:
        """Lock the folder and read an earlier session. A job that has ended before gets its summary.

        Raises SettingError for a link in the folder that leads out of it, and OtherRun for a folder that is in use and
        for a job that has other settings than the one before.
        """
        reject_links(self.folder)
        if self.writes:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Timeout as error:
                rule = "another process is training in this folder; end it, or use another hydra.run.dir"
                raise OtherRun(f"{relative_path(self.folder)}: {rule}") from error
        try:
            if (self.folder / "summary.json").exists():
                self.before = read_summary(self.folder)
            had_ended = self.before.get("status") in ENDED
            # Only a job: a single run goes on with more epochs, also one that has completed.
            if self.is_job and (had_ended or self.last_checkpoint.exists()):
                self.require_same(*IDENTITY, "probes", "trainer", "callbacks")
                self.summary = self.before if had_ended else self.summary
        except UserError:
            self._lock.release()
            raise
        self.curves = []
        return self

    def require_same(self, *groups: str) -> None:
        """Raise OtherRun, which names each setting of these groups whose value differs from the earlier session's."""
        both = self.before.get("settings", {}), self.settings
        recorded, now = (flat({name: finite(settings.get(name)) for name in groups}) for settings in both)
        left = {f"data.{name}" for name in self.before.get("corpus", {}).get("arguments", ())} - now.keys()
        names = [name for name in now | recorded if name not in left and not MACHINE_SETTINGS.fullmatch(name)]
        if others := [name for name in names if recorded.get(name) != now.get(name)]:
            typed, before = (
                " ".join(f"{name}={format_value(values.get(name))}" for name in others) for values in (now, recorded)
            )
            rule = f"the run in {relative_path(self.folder)} has {before}; repeat its command, or use another folder"
            raise OtherRun(f"{typed}: {rule}")

    def begin(self, model: Any, data: "TimeMachine", curves: list[Row], steps: Sequence[Row]) -> None:
        """Record the text and the size of the model, and write the tables of the sessions before.

        Not earlier: a command that is rejected must not change the folder of another run. The summary of a resumed run
        keeps its first start and lists the epochs after which it was resumed. Arguments that a callback has changed,
        such as Lightning's LearningRateFinder, are recorded as the model and the data have them; so are
        arguments of the data that the settings leave to the class, whose names are recorded in `corpus`, too.
        """
        if epoch := self.completed_epochs:
            session = {"epoch": epoch, "started": self.summary["started"]}
            first: Any = {name: value for name, value in self.before.items() if name in FIRST}
            self.summary |= first
            self.summary["resumed"] = [*self.before.get("resumed", []), session]
        # LearningRateFinder sets `model.hparams.lr`, BatchSizeFinder `data.hparams.batch_size`.
        for group, arguments in (("model", model.hparams), ("data", data.hparams)):
            for name, typed in self.settings[group].items():
                if isinstance(value := arguments.get(name), int | float) and value != typed:
                    self.settings[group][name] = value
                    self.found.append(f"{group}.{name}={value}")
        self.curves, self.has_begun = curves, True
        self._columns |= {name for row in curves for name in row}
        self.summary["parameters"] = sum(p.numel() for p in model.parameters())
        self.summary["versions"], self.summary["git"] = versions(), git_revision()
        self.summary["machine"] = f"{os.cpu_count()} cores, {platform.machine()}"
        left = [name for name in (*DATA, "search_dirs") if name in data.hparams and name not in self.settings["data"]]
        self.settings["data"] |= {name: data.hparams[name] for name in left}
        self.summary["corpus"] = about_text(data) | ({"arguments": left} if left else {})
        for name, content in self.files.items():
            self.write(name, content.encode())
        if self.writes:
            write_rows(self.folder / "metrics.csv", curves)
            write_rows(self.folder / "steps.csv", steps)
        self.save()

    def add_epoch(self, row: Row) -> None:
        """Add a row to `curves` and metrics.csv."""
        self.curves.append(row)
        if self.writes and row.keys() <= self._columns:
            append_rows(self.folder / "metrics.csv", [row])
        elif self.writes:  # such as test metrics, or metrics of a validation every few epochs
            write_rows(self.folder / "metrics.csv", self.curves)
        self._columns |= row.keys()

    def add_to_last_epoch(self, numbers: Row) -> None:
        """Add numbers to the last row of metrics.csv."""
        self.curves[-1] |= numbers
        self._columns |= numbers.keys()
        if self.writes:
            write_rows(self.folder / "metrics.csv", self.curves)

    def add_steps(self, rows: Sequence[Row]) -> None:
        """Append rows to steps.csv."""
        if self.writes:
            append_rows(self.folder / "steps.csv", rows)

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the folder, whole or not at all. Raises UserError."""
        if self.writes:
            (self.folder / name).parent.mkdir(exist_ok=True)
            write_whole(self.folder / name, content)

    def save(self) -> None:
        """Write summary.json: when the training begins, when its numbers are known, and at the end."""
        # JSON lacks NaN, and other programs reject the `NaN` that Python writes by default.
        self.write("summary.json", (json.dumps(finite(self.summary), indent=2, allow_nan=False) + "\n").encode())

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if self.has_begun or not self.before:  # otherwise the command was rejected, or the run ended before
                if error and not self.has_ended:  # after its end, only the upload to W&B was interrupted, for example
                    self.summary["status"], self.summary["message"] = status_and_message(error)
                seconds = self.summary["seconds"] + time.monotonic() - self._entered
                self.summary["seconds"] = round(seconds, 1)
                self.save()
        finally:
            self._lock.release()
        # After a rejection there is nothing to resume.
        if self.prints and self.has_begun and not self.has_ended:
            command = shlex.join(["python", sys.argv[0], *self.summary["overrides"], *self.found])
            print(f"resume with   {command} {folder_word('hydra.run.dir', relative_path(self.folder))}", flush=True)

    def objective(self) -> float:
        """Return the final value of `optimized_metric`, inf unless the run has completed: a search would stop at NaN.

        Raises UserError for a run outside a sweep that has diverged.
        """
        if self.summary["status"] == "diverged" and not self.is_job:
            raise UserError(self.summary["message"])
        if self.summary["status"] != "completed":
            return math.inf
        value = self.metrics.get(self.metric, math.inf)
        return math.inf if math.isnan(value) else value


def load_run(folder: str | Path, model_class: "type[RNNLMScratch] | None" = None) -> Run:
    """Return the run of a folder, a checkpoint or a model.safetensors.

    `model_class`: the class of its model if it is your own. Raises SettingError if it is not a run's.
    """
    path = Path(folder)
    place = path if path.is_dir() else path.parent.parent if path.suffix == ".ckpt" else path.parent
    if path.suffix == ".safetensors" and not (place / "summary.json").exists():
        from timemachine.run.weights import summary_of_export  # imports torch

        summary = parse_summary(summary_of_export(path))
    else:
        summary = read_summary(place)
    return Run(place, summary, weights=path, model_class=model_class)


def run_folders(folder: Path) -> list[Path]:
    """Return the folders of all runs below a folder, at any depth, in natural order: 2 before 10."""
    folders = {path.parent for path in folder.glob("**/summary.json")} - {folder}
    return sorted(
        folders, key=lambda path: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]
    )


def is_running(folder: Path) -> bool:
    """Return whether a process is training in the folder. If none does and the status is `running`, it was killed."""
    lock = folder / ".lock"  # the system releases it when the process ends, even if it is killed
    if not lock.exists():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except (Timeout, OSError):
        return True

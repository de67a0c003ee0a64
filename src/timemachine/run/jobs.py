"""The jobs of a sweep, or of any folder of runs, read from their summary.json; their table, written and printed."""

import math
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timemachine.config import format_value
from timemachine.errors import SettingError
from timemachine.run.console import print_table, print_text, short
from timemachine.run.record import ENDED, NOT_FINITE, flat, is_running, metric_of, read_summary
from timemachine.run.rows import final_numbers

if TYPE_CHECKING:
    from pandas import DataFrame

METRIC = "val/perplexity"  # of runs that record no `optimized_metric`
NUM_SHOWN = 6  # settings that the printed table shows
FIRST_COLUMNS, LAST_COLUMNS = ["job", "status"], ["message", "folder"]
SYMBOLS = ("vocabulary", "unknown")  # sizes of a vocabulary, on which perplexities depend
# Derived settings, paths inside the run's folder, and settings without effect on the training.
DERIVED = re.compile(r"resume|tags|(network|rates)\..*|callbacks.*\.(folder|\w*dir\w*)|logger\..*|trainer\.plugins.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run of a sweep: the content of its summary.json."""

    name: str = ""  # its folder, relative to the sweep's
    folder: Path = Path()
    status: str = "completed"
    message: str | None = None
    exercise: str = ""  # "" if the job has no summary.json
    overrides: list[str] = field(default_factory=list)  # of the command line
    settings: dict[str, Any] = field(default_factory=dict)  # dotted name -> value
    metrics: dict[str, float] = field(default_factory=dict)
    parameters: int | None = None  # number of weights
    seconds: float = math.nan
    started: str = ""
    machine: str = ""  # its cores
    probes: dict[str, Any] = field(default_factory=dict)  # name -> its measurements
    corpus: dict[str, Any] = field(default_factory=dict)  # of the text: its name, characters and symbols

    @property
    def has_ended(self) -> bool:
        """Return whether the run completed or diverged, which is a result as well."""
        return self.status in ENDED


def load_jobs(folder: Path, prefix: str = "") -> list[Job]:
    """Return the jobs of a sweep, in the order of their numbers, with `prefix` before their names.

    Raises SettingError for a folder without a job.
    """
    if not (places := job_folders(folder)):
        raise SettingError(f"{folder}: no run found; use a folder with runs, such as a sweep's or outputs/<date>")
    jobs = [read_job(place, f"{prefix}{place.relative_to(folder)}") for place in places]
    drop_copied_seeds(jobs)
    return jobs


def drop_copied_seeds(jobs: list[Job]) -> None:
    """Remove `data.seed` from the settings of the jobs if it is a copy of `seed` in all of them: it was not typed."""
    if all(job.settings.get("data.seed", job.settings.get("seed")) == job.settings.get("seed") for job in jobs):
        for job in jobs:
            job.settings.pop("data.seed", None)


def read_job(folder: Path, name: str = "") -> Job:
    """Return the job of a folder, with status `failed` if it has no summary.json or its process was killed."""
    # A job that was killed or failed has no final numbers, but its tables have those of the epochs that it completed.
    try:
        summary = read_summary(folder)
        summary["metrics"] = summary["metrics"] or final_numbers(folder, metric_of(summary))
    except SettingError as error:
        return Job(name=name, folder=folder, status="failed", message=str(error))
    if summary["status"] == "running" and not is_running(folder):
        summary |= {"status": "failed", "message": "its process was killed"}
    entries = {field.name: summary[field.name] for field in fields(Job) if field.name in summary}
    settings = {name: value for name, value in flat(summary["settings"]).items() if not DERIVED.fullmatch(name)}
    return Job(**entries | {"settings": settings, "name": name, "folder": folder})


def job_folders(folder: Path) -> list[Path]:
    """Return the folders of all runs below a folder, at any depth, in natural order: 2 before 10."""
    # `.hydra` as well: a job that failed before its training has no summary.json.
    folders = {path.parent for name in ("summary.json", ".hydra") for path in folder.glob(f"**/{name}")} - {folder}
    return sorted(
        folders, key=lambda path: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]
    )


def rows_of(jobs: list[Job]) -> list[dict[str, Any]]:
    """Return a row per job: name, status, settings, final numbers, measurements of probes, message, folder.

    Measurements have names such as `stream/val/bits`; lists are only in summary.json.
    """
    return [
        {"job": job.name, "status": job.status}
        | {name: format_value(value) if isinstance(value, list) else value for name, value in job.settings.items()}
        | {name: number for name, number in job.corpus.items() if name in SYMBOLS}
        | ({"parameters": job.parameters} if job.parameters else {})
        | job.metrics
        | dict(_measurements("", job.probes))
        | {"message": job.message, "folder": str(job.folder)}
        for job in jobs
    ]


def table_of(jobs: list[Job]) -> "DataFrame":
    """Return the table in summary.csv: the rows of the jobs, without settings that do not vary."""
    from pandas import DataFrame

    rows = DataFrame(rows_of(jobs), dtype=object)  # as objects: floats hold missing integers
    table = rows.drop(columns="optimized_metric", errors="ignore")
    # Jobs that failed before they read their settings or the text lack these columns, which is no variation.
    ran, read = table[[bool(job.settings) for job in jobs]], table[[bool(job.corpus) for job in jobs]]
    settings = [name for name in table if is_setting(name)]
    settings = [name for name in settings if (read if name in SYMBOLS else ran)[name].map(repr).nunique() > 1]
    others = [name for name in table if not is_setting(name) and name not in LAST_COLUMNS + FIRST_COLUMNS]
    return table[[*FIRST_COLUMNS, *settings, *others, *LAST_COLUMNS]]


def is_setting(column: str) -> bool:
    """Return whether a column of a sweep's table is a setting, or a number of symbols, which follows from settings."""
    return column in ("seed", "init_from", "probes", *SYMBOLS) or ("." in column and "/" not in column)


def in_short(value: Any) -> str:
    """Return the value of a setting in a report: 1 for 1.0, null for NaN."""
    if isinstance(value, float):
        return "null" if math.isnan(value) else f"{value:.10g}"
    return format_value(value)


def load_sweep(folder: str | Path) -> list[dict[str, Any]]:
    """Return the rows of summary.csv, one per job, with None for a missing value, for `pandas.DataFrame`.

    Raises SettingError for a folder without a job.
    """
    table = table_of(load_jobs(Path(folder)))
    rows: list[dict[str, Any]] = table.where(table.notna(), None).to_dict("records")
    return rows


def exercise_of(jobs: Iterable[Job]) -> str:
    """Return the exercise that all jobs belong to, or `none` if they do not share one."""
    names = {job.exercise for job in jobs} - {""}
    return names.pop() if len(names) == 1 else "none"


def metric_of_jobs(jobs: Iterable[Job]) -> str:
    """Return the `optimized_metric` of the first job that records one."""
    return next((str(job.settings["optimized_metric"]) for job in jobs if "optimized_metric" in job.settings), METRIC)


def print_jobs(table: "DataFrame", jobs: list[Job]) -> None:
    """Print a line per job, the lowest `optimized_metric` first, and the command that trains the best one alone.

    A line has the status, perplexities, and the first varied settings; all are in summary.csv.
    """
    metric = metric_of_jobs(jobs)
    ranks = [(job.status != "completed", job.metrics.get(metric, math.inf)) for job in jobs]
    order = sorted(range(len(jobs)), key=ranks.__getitem__)
    table, best = table.iloc[order], jobs[order[0]]
    settings = [name for name in table if is_setting(name)]
    names = dict.fromkeys(["train/perplexity", "val/perplexity", "test/perplexity", metric])
    metrics = [name for name in names if name in table]
    cells = table[["job", "status", *settings[:NUM_SHOWN], *metrics]].map(in_short)
    for name in metrics:
        cells[name] = table[name].astype(float).map(short)
    columns = [name.removesuffix("/perplexity") for name in cells]
    print_table(f"{metric.rpartition('/')[2]} of each job, the best first", columns, cells.to_numpy().tolist())
    if settings[NUM_SHOWN:]:
        print_text(f"also varied, see summary.csv: {', '.join(settings[NUM_SHOWN:])}")
    if len(jobs) > 1 and best.overrides and best.status == "completed" and metric in best.metrics:
        print_text(f"best          job {best.name}: {shlex.join(['python', 'train.py', *best.overrides])}")


def _measurements(name: str, measured: Any) -> Iterable[tuple[str, Any]]:
    """Yield the numbers and texts in nested dicts, with their names joined by `/`."""
    if isinstance(measured, dict):
        for key, value in measured.items():
            yield from _measurements(f"{name}/{key}".lstrip("/"), value)
    elif isinstance(measured, int | float) or measured in NOT_FINITE:
        yield name, float(measured)
    elif isinstance(measured, str):
        yield name, measured

"""The jobs of a sweep, or of any folder of runs, read from their summary.json; their table, written and printed."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from timemachine.config import format_value
from timemachine.errors import SettingError
from timemachine.run.console import print_table, print_text, printable, short
from timemachine.run.record import ENDED, NOT_FINITE, flat, is_running, read_summary
from timemachine.run.rows import final_numbers, read_numbers, write_rows

NUM_SHOWN = 6  # settings that the printed table shows
# Settings that follow from others: copies, and places in the run's folder.
DERIVED = re.compile(r"resume|data\.seed|(callbacks|logger|trainer\.plugins).*\.(folder|\w*dir\w*)|trainer\.plugins")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run of a sweep: the content of its summary.json, and methods that read its curves."""

    name: str = ""  # its folder, relative to the sweep's
    folder: Path = Path()
    status: str = "completed"
    message: str | None = None
    exercise: str = ""  # "" if the job has no summary.json
    scale: str = "full"
    settings: dict[str, Any] = field(default_factory=dict)  # dotted name -> value
    metrics: dict[str, float] = field(default_factory=dict)
    parameters: int | None = None  # number of weights
    seconds: float = math.nan
    started: str = ""
    probes: dict[str, Any] = field(default_factory=dict)  # name -> its measurements
    corpus: dict[str, Any] = field(default_factory=dict)  # of the text: its name, characters and symbols

    @property
    def has_ended(self) -> bool:
        """Return whether the run completed or diverged, which is a result as well."""
        return self.status in ENDED

    def epochs(self) -> list[dict[str, float]]:
        """Return the rows of metrics.csv, one per epoch; an empty cell is NaN."""
        return read_numbers(self.folder / "metrics.csv")

    def steps(self) -> list[dict[str, float]]:
        """Return the rows of steps.csv, one per step."""
        return read_numbers(self.folder / "steps.csv")

    def number(self, name: str) -> float:
        """Return a final metric, NaN if there is none."""
        return self.metrics.get(name, math.nan)

    def stream(self, split: str, number: str = "perplexity") -> float:
        """Return a number of the stream of train, val or test that `probes=[stream]` measured, NaN if it did not."""
        return float(self.probes.get("stream", {}).get(split, {}).get(number, math.nan))


def load_jobs(folder: Path) -> list[Job]:
    """Return the jobs of a sweep, in the order of their numbers. Raises SettingError for a folder without a job."""
    if not (places := job_folders(folder)):
        raise SettingError(f"{folder}: no run found; use a folder with runs, such as that of a sweep or outputs/<date>")
    return [read_job(place, str(place.relative_to(folder))) for place in places]


def read_job(folder: Path, name: str = "") -> Job:
    """Return the job of a folder, with status `failed` if it has no summary.json or its process was killed."""
    try:
        summary = read_summary(folder)
    except SettingError as error:
        return Job(name=name, folder=folder, status="failed", message=str(error))
    if summary["status"] == "running" and not is_running(folder):
        summary |= {"status": "failed", "message": "its process was killed"}
    entries = {field.name: summary[field.name] for field in fields(Job) if field.name in summary}
    settings = {name: value for name, value in flat(summary["settings"]).items() if not DERIVED.fullmatch(name)}
    entries |= {"settings": settings, "metrics": summary["metrics"] or final_numbers(folder)}
    return Job(**entries | {"name": name, "folder": folder})


def job_folders(folder: Path) -> list[Path]:
    """Return the folders of all runs below a folder, at any depth, in natural order: 2 before 10."""
    folders = {path.parent for name in ("summary.json", ".hydra") for path in folder.glob(f"**/{name}")} - {folder}
    return sorted(
        folders, key=lambda path: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]
    )


def table_of(jobs: list[Job]) -> list[dict[str, Any]]:
    """Return a row per job: name, status, varied settings, final numbers, measurements of probes, message, folder.

    If the vocabularies vary, a row has their sizes. Measurements have names such as `stream/val/bits`; lists are only
    in summary.json. A missing value is "".
    """
    settings = [job.settings | _symbols(job) for job in jobs]
    names = [*varied([job.settings for job in jobs]), *varied([_symbols(job) for job in jobs])]
    sizes: list[dict[str, Any]] = [{"parameters": job.parameters} if job.parameters else {} for job in jobs]
    numbers = [job.metrics | size | dict(_numbers("", job.probes)) for job, size in zip(jobs, sizes, strict=True)]
    metrics = list(dict.fromkeys(name for row in numbers for name in row))
    return [
        {"job": job.name, "status": job.status}
        | {name: chosen.get(name, "") for name in names}
        | {name: row.get(name, "") for name in metrics}
        | {"message": job.message or "", "folder": str(job.folder)}
        for job, chosen, row in zip(jobs, settings, numbers, strict=True)
    ]


def write_table(rows: list[dict[str, Any]], folder: Path) -> None:
    """Write summary.csv into a sweep's folder, with control characters in texts escaped."""
    rows = [
        {printable(name): printable(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
        for row in rows
    ]
    write_rows(folder / "summary.csv", [*rows[0]], rows)


def load_sweep(folder: str | Path) -> list[dict[str, Any]]:
    """Return the rows of summary.csv, one per job, with None for a missing value, for `pandas.DataFrame`.

    Raises SettingError for a folder without a job.
    """
    rows = table_of(load_jobs(Path(folder)))
    return [{name: None if value == "" else value for name, value in row.items()} for row in rows]


def varied(settings: list[dict[str, Any]]) -> list[str]:
    """Return the dotted names of settings that differ between jobs, ignoring jobs without settings."""
    names = dict.fromkeys(name for job in settings for name in job)
    return [name for name in names if len({repr(job.get(name)) for job in settings if job}) > 1]


def exercise_of(jobs: Iterable[Job]) -> str:
    """Return the exercise that all jobs belong to, or `none` if they do not share one."""
    names = {job.exercise for job in jobs} - {""}
    return names.pop() if len(names) == 1 else "none"


def print_jobs(rows: list[dict[str, Any]]) -> None:
    """Print a line per job: status, perplexities, and the first varied settings; all are in summary.csv."""
    settings = [name for name in rows[0] if name in ("seed", "init_from") or "." in name]
    metrics = [name for name in ("train/perplexity", "val/perplexity", "test/perplexity") if name in rows[0]]
    columns = ["job", "status", *settings[:NUM_SHOWN], *metrics]
    lines = [[_cell(name, row[name]) for name in columns] for row in rows]
    print_table("perplexity of each job", [name.removesuffix("/perplexity") for name in columns], lines)
    if settings[NUM_SHOWN:]:
        print_text(f"also varied, see summary.csv: {', '.join(settings[NUM_SHOWN:])}")


def _cell(name: str, value: object) -> str:
    if isinstance(value, float):
        return short(value) if name.endswith("/perplexity") else f"{value:.4g}"
    return format_value(value)


def _symbols(job: Job) -> dict[str, int]:
    """Return the size of a run's vocabulary and its number of unknown characters: perplexities depend on both."""
    return {name: number for name, number in job.corpus.items() if name in ("vocabulary", "unknown")}


def _numbers(name: str, measured: Any) -> Iterable[tuple[str, Any]]:
    """Yield the numbers in nested dicts, with their names joined by `/`."""
    if isinstance(measured, dict):
        for key, value in measured.items():
            yield from _numbers(f"{name}/{key}".lstrip("/"), value)
    elif isinstance(measured, int | float) or measured in NOT_FINITE:
        yield name, float(measured)

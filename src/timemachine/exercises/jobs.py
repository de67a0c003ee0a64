"""The jobs of an exercise's sweep, read back, and tables of their numbers."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from timemachine.runs.rows import read_numbers
from timemachine.runs.summaries import flat
from timemachine.runs.sweep import job_folders, summary_or_failure


@dataclass(frozen=True, slots=True)
class Job:
    """A run of a sweep: what summary.json says, and its curves."""

    folder: Path
    status: str
    message: str
    settings: dict[str, Any]  # dotted name -> value
    metrics: dict[str, float]
    seconds: float
    started: str
    probes: dict[str, Any]  # name -> what it measured
    letters: dict[str, float] = field(default_factory=dict)  # train/ and val/perplexity of the letters' frequencies
    name: str = ""  # the folder, seen from the sweep's: its number

    def epochs(self) -> list[dict[str, float]]:
        """Return metrics.csv, a row an epoch; an empty cell is NaN."""
        return read_numbers(self.folder / "metrics.csv")

    def stream(self, split: str) -> float:
        """Return the stream perplexity of train, val or test that `probes=[stream]` measured, NaN if it did not."""
        return float(self.probes.get("stream", {}).get(split, {}).get("perplexity", math.nan))

    def steps(self) -> list[dict[str, float]]:
        """Return steps.csv, a row a step."""
        return read_numbers(self.folder / "steps.csv")


def load_jobs(folder: Path) -> list[Job]:
    """Return the jobs of a sweep that began, in the order of their numbers."""
    return [_job(path, str(path.relative_to(folder)), summary_or_failure(path)) for path in job_folders(folder)]


def _job(folder: Path, name: str, summary: dict[str, Any]) -> Job:
    seconds, started, probes = summary.get("seconds", math.nan), summary.get("started", ""), summary.get("probes", {})
    status, message, metrics = summary["status"], summary["message"] or "", summary["metrics"]
    settings = flat(summary["settings"])
    letters = summary.get("corpus", {}).get("unigram", {})
    return Job(folder, status, message, settings, metrics, seconds, started, probes, letters, name)


def grouped(jobs: Iterable[Job], *names: str) -> dict[tuple[Any, ...], list[Job]]:
    """Return the jobs by their values of these settings, in the order in which the values first come."""
    groups: dict[tuple[Any, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(job.settings.get(name) for name in names), []).append(job)
    return groups


Cell = Callable[[list[Job]], str]  # what a table says of the jobs of a row


def rows(
    jobs: Iterable[Job], by: Mapping[str, str | Callable[[Job], Any]], cells: Mapping[str, Cell]
) -> list[list[str]]:
    """Return a row for each combination of values of `by`, in the order in which they first come.

    `by`: a column's name -> a setting, or what is computed from a job; `cells`: a column's name -> its cell. So the
    table's columns are `[*by, *cells]`.
    """
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        values = (job.settings.get(it) if isinstance(it, str) else it(job) for it in by.values())
        groups.setdefault(tuple(map(_plain, values)), []).append(job)
    return [[*key, *(cell(group) for cell in cells.values())] for key, group in groups.items()]


def _plain(value: object) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def span(values: Iterable[float], form: str = ".3g") -> str:
    """Return the smallest and the largest, or the one value, or a dash for none."""
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        return "–"
    return " to ".join(dict.fromkeys(f"{number:{form}}" for number in (min(numbers), max(numbers))))


FOLDED = 15  # rows; a longer table opens on a click


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown, folded if it is long."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (columns, ["---"] * len(columns), *rows)]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    summary = f"<summary>A table of {len(rows)} rows</summary>"
    return table if len(rows) <= FOLDED else f"<details>{summary}\n\n{table}\n\n</details>"

"""Groups of a sweep's jobs, and Markdown tables."""

import html
import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar

from timemachine.errors import SettingError
from timemachine.run.console import printable
from timemachine.run.jobs import Job, varied

NEXT_EDITION_EPOCHS = 10  # of recipe=next_edition


def ended(jobs: Iterable[Job]) -> list[Job]:
    """Return the jobs that completed or diverged."""
    return [job for job in jobs if job.has_ended]


def completed(jobs: Iterable[Job]) -> list[Job]:
    """Return the jobs that completed."""
    return [job for job in jobs if job.status == "completed"]


def missing(jobs: list[Job], needed: Mapping[str, object]) -> str:
    """Return the line that replaces an answer while runs are missing, "" if none is missing.

    `needed`: description of the runs -> a value that the answer is computed from, false if the runs are missing.
    """
    lists = {
        "missing": [runs for runs, found in needed.items() if not found],
        "incomplete jobs": [job.name for job in jobs if not job.has_ended],
    }
    parts = [f"{label}: {', '.join(names)}" for label, names in lists.items() if names]
    return f"No answer yet; {'; '.join(parts)}." if parts else ""


def reads_tokens(jobs: Iterable[Job]) -> bool:
    """Return whether the runs read byte-pair tokens, not characters: a report then has bits per byte as well."""
    return any(job.settings.get("data.tokens") == "bpe" for job in jobs)


def unit(jobs: Iterable[Job]) -> str:
    """Return the unit that the runs read, "token" or "character"."""
    return "token" if reads_tokens(jobs) else "character"


def book_rate(jobs: Iterable[Job]) -> float:
    """Return the learning rate of the book's run; for tokens, of the run in its next edition."""
    return 4.0 if reads_tokens(jobs) else 1.0


def epochs_of_tokens(jobs: Iterable[Job]) -> str:
    """Return how many epochs of the next edition's run the runs have, such as "5 of 10 epochs"."""
    return f"{span(float(job.settings['trainer.max_epochs']) for job in jobs)} of {NEXT_EDITION_EPOCHS} epochs"


def run_description(jobs: Iterable[Job]) -> str:
    """Return the beginning of a sentence about the book's run, or about epochs of the next edition's run."""
    jobs = list(jobs)
    return f"{epochs_of_tokens(jobs)} of the next edition's run" if reads_tokens(jobs) else "The book's run"


By = str | Callable[[Job], Any]  # the name of a setting, or a function of a job


def grouped(jobs: Iterable[Job], *by: By) -> dict[tuple[Any, ...], list[Job]]:
    """Group the jobs by their values of `by`, in order of first occurrence."""
    groups: dict[tuple[Any, ...], list[Job]] = {}
    for job in jobs:
        key = tuple(job.settings.get(it) if isinstance(it, str) else it(job) for it in by)
        groups.setdefault(key, []).append(job)
    return groups


def span(values: Iterable[float], form: str = ".3g") -> str:
    """Return "smallest to largest", one number if both print the same, or a dash without values."""
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        return "–"
    return " to ".join(dict.fromkeys(f"{number:{form}}" for number in (min(numbers), max(numbers))))


def percent(ratio: float, digits: int = 0) -> str:
    """Return how far a ratio is from 1, such as "11% lower"."""
    return f"{100 * abs(ratio - 1):.{digits}f}% {'lower' if ratio < 1 else 'higher'}"


Key = TypeVar("Key", bound=Hashable)


def unique(jobs: Iterable[Job], key: Callable[[Job], Key]) -> dict[Key, Job]:
    """Return the jobs by key; of repeated runs, keep the last.

    Raise SettingError if two jobs with one key differ in other settings, since the report would drop one of them.
    """
    found: dict[Key, Job] = {}
    for job in jobs:
        other = found.get(key(job), job)
        if other is not job and (names := varied([other.settings, job.settings])):
            differ = f"differ in {', '.join(names)}, which this report does not distinguish"
            raise SettingError(f"jobs {other.name} and {job.name} {differ}; use a sweep with one value of each")
        found[key(job)] = job
    return found


MAX_OPEN_ROWS = 15  # rows; longer tables are collapsed


def escaped(text: str) -> str:
    """Escape HTML and control characters for Markdown, since a run's settings may contain any text."""
    return html.escape(printable(text), quote=False)


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table, collapsed if it is long."""
    every = (columns, ["---"] * len(columns), *rows)
    lines = [[escaped(cell).replace("\n", " ").replace("|", "\\|") for cell in line] for line in every]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    summary = f"<summary>A table of {len(rows)} rows</summary>"
    return table if len(rows) <= MAX_OPEN_ROWS else f"<details>{summary}\n\n{table}\n\n</details>"

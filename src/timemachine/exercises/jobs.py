"""The jobs of an exercise's sweep in groups, and tables in Markdown."""

import html
import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar

from timemachine.corpus import DEFAULT
from timemachine.errors import SettingError
from timemachine.run.console import printable
from timemachine.run.jobs import Job as Job
from timemachine.run.jobs import load_jobs as load_jobs
from timemachine.run.jobs import varied


def ended(jobs: Iterable[Job]) -> list[Job]:
    """Return the jobs that completed or diverged."""
    return [job for job in jobs if job.status in ("completed", "diverged")]


By = str | Callable[[Job], Any]  # a setting, or a function of a job


def grouped(jobs: Iterable[Job], *by: By) -> dict[tuple[Any, ...], list[Job]]:
    """Return the jobs by their values of `by`, in the order in which these first come."""
    groups: dict[tuple[Any, ...], list[Job]] = {}
    for job in jobs:
        key = tuple(job.settings.get(it) if isinstance(it, str) else it(job) for it in by)
        groups.setdefault(key, []).append(job)
    return groups


def span(values: Iterable[float], form: str = ".3g") -> str:
    """Return the smallest and the largest, or the one value, or a dash for none."""
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        return "–"
    return " to ".join(dict.fromkeys(f"{number:{form}}" for number in (min(numbers), max(numbers))))


def text_name(jobs: Iterable[Job]) -> str:
    """Return a report's name for the text: novel, unless a run read another text."""
    return "novel" if all(job.settings.get("data.corpus", DEFAULT) == DEFAULT for job in jobs) else "text"


Key = TypeVar("Key", bound=Hashable)


def unique(jobs: Iterable[Job], key: Callable[[Job], Key]) -> dict[Key, Job]:
    """Return the jobs under their keys, of the same run twice the last one.

    Raise SettingError if two jobs of one key are not the same run: a report would drop one of them.
    """
    found: dict[Key, Job] = {}
    for job in jobs:
        other = found.get(key(job), job)
        if other is not job and (names := varied([other.settings, job.settings])):
            differ = f"have other values of {', '.join(names)}, which this report does not tell apart"
            raise SettingError(f"jobs {other.name} and {job.name}: {differ}; type a folder with one value of each")
        found[key(job)] = job
    return found


FOLDED = 15  # rows; a longer table opens on a click


def escaped(text: str) -> str:
    """Return a text for Markdown, without HTML and control characters: a run's settings may contain anything."""
    return html.escape(printable(text), quote=False)


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """Return a table in Markdown, folded if it is long."""
    every = (columns, ["---"] * len(columns), *rows)
    lines = [[escaped(cell).replace("\n", " ").replace("|", "\\|") for cell in line] for line in every]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    summary = f"<summary>A table of {len(rows)} rows</summary>"
    return table if len(rows) <= FOLDED else f"<details>{summary}\n\n{table}\n\n</details>"

"""A folder of runs, such as a sweep's: a row a job, summary.csv, and how to show them."""

import math
import os
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from timemachine.config import format_value
from timemachine.errors import SettingError
from timemachine.run.console import print_table, print_text, printable, short, terminal_width
from timemachine.run.files import shown
from timemachine.run.rows import final_numbers, write_rows
from timemachine.run.summaries import NOT_FINITE, flat, is_running, read_summary

VAL = "val/perplexity"
Summaries = dict[Path, dict[str, Any]]  # folder of a job -> its summary


def read_summaries(folder: Path) -> Summaries:
    """Return the summaries of the jobs of a sweep, in the order of their numbers.

    Raises SettingError for a folder without a job.
    """
    if not (jobs := job_folders(folder)):
        if (folder / "summary.json").exists():
            raise SettingError(f"{folder}: is one run; type the folder above, {shown(folder.resolve().parent)}")
        raise SettingError(f"{folder}: has no run in it; type the folder of a sweep, or one of runs, as outputs/<date>")
    return {job: summary_or_failure(job) for job in jobs}


def sweep_rows(folder: Path, summaries: Summaries) -> list[dict[str, Any]]:
    """Return a row per job: number, status, settings and symbols that vary, last numbers, probes', message, folder.

    A probe's number has a name like `stream/val/bits`; lists stay in summary.json. A job without a value has "".
    """
    settings = [flat(summary["settings"]) | _symbols(summary) for summary in summaries.values()]
    names = varied(settings)
    numbers = [
        (summary["metrics"] or final_numbers(job)) | dict(_numbers("", summary.get("probes", {})))
        for job, summary in summaries.items()
    ]
    metrics = list(dict.fromkeys(name for of_job in numbers for name in of_job))
    return [
        {"job": str(job.relative_to(folder)), "status": summary["status"]}
        | {name: chosen.get(name, "") for name in names}
        | {name: of_job.get(name, "") for name in metrics}
        | {"message": summary["message"] or "", "folder": str(job)}
        for (job, summary), chosen, of_job in zip(summaries.items(), settings, numbers, strict=True)
    ]


def write_table(rows: list[dict[str, Any]], folder: Path) -> None:
    """Write summary.csv into a sweep's folder: texts without control characters, and none that is a formula."""
    written = [{_text(name): _text(value) for name, value in row.items()} for row in rows]
    write_rows(folder / "summary.csv", [*written[0]], written)


def _text(value: Any) -> Any:
    """Return a text with an apostrophe before it if a spreadsheet would compute it; any other value as it is."""
    if not isinstance(value, str):
        return value
    return printable(f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value)


def _symbols(summary: dict[str, Any]) -> dict[str, int]:
    """Return how many symbols a run knows, and how many characters are `<unk>` to it: perplexities depend on both."""
    return {name: number for name, number in summary.get("corpus", {}).items() if name in ("vocabulary", "unknown")}


def _numbers(name: str, found: Any) -> Iterable[tuple[str, Any]]:
    """Return the numbers of nested dicts under their names, joined by `/`."""
    if isinstance(found, dict):
        for key, value in found.items():
            yield from _numbers(f"{name}/{key}".lstrip("/"), value)
    elif isinstance(found, int | float) or found in NOT_FINITE:
        yield name, float(found)


def load_sweep(folder: str | Path) -> list[dict[str, Any]]:
    """Return a row per job as summary.csv has it, with None where a job has no value: what `pandas.DataFrame` takes.

    Raises SettingError for a folder without a job.
    """
    rows = sweep_rows(Path(folder), read_summaries(Path(folder)))
    return [{name: None if value == "" else value for name, value in row.items()} for row in rows]


def varied(settings: list[dict[str, Any]]) -> list[str]:
    """Return the dotted names whose values differ between jobs; a job without settings does not count."""
    names = dict.fromkeys(name for job in settings for name in job if name != "resume")
    return [name for name in names if len({repr(job.get(name)) for job in settings if job}) > 1]


def job_folders(folder: Path) -> list[Path]:
    """Return the folders of the runs that began, at any depth below a folder, in natural order: 2 before 10."""
    found = []
    for place, folders, files in os.walk(folder):
        if place != str(folder) and ("summary.json" in files or ".hydra" in folders):
            found.append(Path(place))
            folders.clear()  # there is no run in a run
    return sorted(found, key=lambda path: [int(it) if it.isdecimal() else it for it in re.split(r"(\d+)", str(path))])


def exercise_of(summaries: Iterable[dict[str, Any]]) -> str:
    """Return the exercise that all jobs belong to, `none` if there is no such exercise."""
    known = {summary.get("exercise", "none") for summary in summaries}
    return known.pop() if len(known) == 1 else "none"


def summary_or_failure(job: Path) -> dict[str, Any]:
    """Return a job's summary.json, or one that says that the job failed, if there is none or its process was killed."""
    try:
        summary = read_summary(job)
    except (OSError, ValueError):
        return {"status": "failed", "message": "ended before it wrote summary.json", "settings": {}, "metrics": {}}
    if summary["status"] == "running" and not is_running(job):
        return summary | {"status": "failed", "message": "its process was killed"}
    return summary


def upload_line(folder: Path, jobs: str = "") -> str:
    """Return the line that says how to upload what W&B has not got of an offline run, or of all jobs of a sweep.

    `folder`: a run's `wandb/`, or a sweep's, with `jobs` the shell's pattern of those in it. Return "" for nothing:
    `wandb sync` marks each part of a run that it has uploaded.
    """
    parts = folder.glob(f".{jobs}/offline-run-*/*.wandb")
    if all(part.with_suffix(".wandb.synced").exists() for part in parts):
        return ""
    return f"W&B           offline; upload with: wandb sync {shlex.quote(shown(folder))}{jobs}"


def _cell(name: str, value: object) -> str:
    if isinstance(value, float):
        return short(value) if name.endswith("/perplexity") else f"{value:.4g}"
    return format_value(value)


def print_jobs(rows: list[dict[str, Any]]) -> None:
    """Print a line per job: status, perplexities, and as many of the settings that vary as fit; summary.csv has all.

    The lowest validation perplexity is marked, unless the jobs read other texts, or in other windows.
    """
    found = [row.get(VAL) or math.inf if row["status"] == "completed" else math.inf for row in rows]
    others = {name for name in rows[0] if name.startswith("data.") or name == "vocabulary"} - {"data.batch_size"}
    lowest = math.inf if others else min(found)
    best = [number for number, value in enumerate(found) if value == lowest < math.inf]
    metrics = ("train/perplexity", VAL, "test/perplexity")
    columns = {
        name: [name.removesuffix("/perplexity"), *(_cell(name, row[name]) for row in rows)]
        for name in rows[0]
        if name in ("job", "status", "seed", "init_from", *metrics) or "." in name
    }
    for number in best:
        columns["status"][number + 1] += ", best"
    needed = {name: max(map(len, cells)) + 3 for name, cells in columns.items()}  # 3: what stands between columns
    room = terminal_width() - 1 - sum(needed[name] for name in needed if name in ("job", "status", *metrics))
    left_out = []
    for name in [name for name in columns if name not in ("job", "status", *metrics)]:
        if needed[name] > room:
            left_out.append(name)
            del columns[name]
        else:
            room -= needed[name]
    headings, *lines = zip(*columns.values(), strict=True)
    print_table("perplexity of each job", headings, lines, best)
    if left_out:
        print_text(f"in summary.csv: {', '.join(left_out)}")

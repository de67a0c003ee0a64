"""Write a sweep's report.md from the folders of its jobs, also for unfinished sweeps."""

import importlib
import math
import os
import pkgutil
import platform
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

import timemachine.exercises
from timemachine.exercises import Findings
from timemachine.exercises.groups import escaped, markdown, missing, reads_tokens
from timemachine.run.console import print_table, print_text
from timemachine.run.files import link, write_figure, write_whole
from timemachine.run.jobs import Job, print_jobs, table_of, varied, write_table


def write_results(folder: Path, exercise: str, jobs: list[Job]) -> None:
    """Write summary.csv, report.md and the figures of a sweep, and print its table.

    `exercise`: the name of the exercise, or `none`.
    """
    rows = table_of(jobs)
    write_table(rows, folder)
    if exercise == "none":
        print_jobs(rows)
        print(f"table         {link(folder / 'summary.csv')}")
    write_report(folder, exercise, jobs)


def write_report(folder: Path, exercise: str, jobs: list[Job]) -> None:
    """Write report.md and the figures of a sweep; for an exercise, also print its table and answer.

    A user's `text.md` in the folder of the sweep is inserted after the answer.
    """
    module = module_of(exercise)
    findings: Findings = module.findings(jobs)
    pictures = []
    for name, (figure, caption) in findings.figures.items() if findings.rows else ():
        write_figure(folder / f"{name}.png", figure)
        pictures.append(f"![{escaped(caption)}]({name}.png)\n\n*{escaped(caption)}*")
    if findings.arrays:
        np.savez_compressed(folder / "arrays.npz", **findings.arrays)
    title = "Sweep" if exercise == "none" else f"Exercise {escaped(exercise)}"
    if module.__doc__ and module.__name__.endswith(f".{exercise}"):
        title = module.__doc__.partition("\n")[0]
        title = getattr(module, "TITLE_OF_TOKENS", title) if reads_tokens(jobs) else title
    answer = findings.answer if findings.rows else missing(jobs, {"run with a result": []})
    own = folder / "text.md"
    parts = [f"# {title}", escaped(answer), *pictures[:1]]
    parts += [own.read_text(encoding="utf-8").strip() if own.is_file() else ""]
    parts += ["## Setup", escaped(findings.setting), escaped(_grid(jobs)), escaped(_effort(jobs))]
    parts += ["## Results", markdown(findings.columns, findings.rows), *findings.notes, *pictures[1:]]
    write_whole(folder / "report.md", ("\n\n".join(filter(None, parts)) + "\n").encode())
    if exercise != "none":
        print_table(title, findings.columns, findings.rows)
        if answer:
            print_text(answer)
    print(f"report        {link(folder / 'report.md')}")


def module_of(exercise: str) -> Any:
    """Return the exercise's module if it has `findings`, else `generic`. Imports no other exercise."""
    names = [module.name for module in pkgutil.iter_modules(timemachine.exercises.__path__)]
    for name in (exercise, "generic"):
        if name in names and hasattr(module := importlib.import_module(f"timemachine.exercises.{name}"), "findings"):
            break
    return module


def _grid(jobs: list[Job]) -> str:
    """List the settings that differ between jobs, with their values."""
    names = varied([job.settings for job in jobs])
    values = {name: dict.fromkeys(str(job.settings[name]) for job in jobs if name in job.settings) for name in names}
    each = "; ".join(f"`{name}`: {', '.join(found)}" for name, found in values.items()).replace("\n", " ")
    return f"Varied: {each}." if each else "Nothing was varied."


def _effort(jobs: list[Job]) -> str:
    """Return the number of jobs, their statuses, their duration and the machine."""
    statuses = [job.status for job in jobs]
    ended = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    ran = [job for job in jobs if job.started and not math.isnan(job.seconds)]
    spans = [(datetime.fromisoformat(job.started).timestamp(), job.seconds) for job in ran]
    minutes, until = 0.0, 0.0  # time in which at least one job ran: a resumed sweep has gaps
    for began, seconds in sorted(spans):
        minutes += max(0.0, began + seconds - max(began, until)) / 60
        until = max(until, began + seconds)
    cores = f"{os.cpu_count()} cores, {platform.machine()}"
    return (
        f"{len(jobs)} runs ({ended}) in {minutes:.1f} minutes; {sum(b for _, b in spans) / 60:.1f} one after another. "
        f"{cores}."
    )

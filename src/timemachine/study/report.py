"""Write a sweep's report.md from the folders of its jobs, also for unfinished sweeps."""

import ast
import importlib
import inspect
import math
import pkgutil
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from pandas import DataFrame, Series

import timemachine.exercises
from timemachine.config import REPOSITORY
from timemachine.errors import SettingError, one_line
from timemachine.run.console import print_table, print_text
from timemachine.run.files import relative_path, write_whole
from timemachine.study import generic
from timemachine.study.figures import image_of
from timemachine.study.jobs import Jobs, in_short, is_setting, print_jobs, rows_of, table_of

REPEATED = ("seed", "data.start")  # settings of runs that are averaged


def write_report(folder: Path, exercise: str, jobs: Jobs, form: str | None = None, width: float | None = None) -> None:
    """Write summary.csv, report.md and the figure of a sweep, and print its table.

    `exercise`: its name, `none` for a sweep without one, or `runs` for any runs. `form`: svg or pdf, of a second
    figure. `width`: of the figures, in inches. Raises SettingError if the report cannot tell the jobs apart.
    """
    rows = rows_of(jobs)
    summary, module, frame = table_of(rows), module_of(exercise), DataFrame(rows)
    write_whole(folder / "summary.csv", summary.map(_no_formula).to_csv(index=False).encode())
    ended, answer = frame[[run.has_ended for run in jobs.values()]], _reference_answer(exercise, frame)
    ended = ended.drop_duplicates([name for name in ended if is_setting(name)], keep="last")  # repeated runs
    title = "Runs side by side" if exercise == "runs" else title_of(module)
    text = report(module, ended, f"# {title}\n\n{answer}".strip(), effort(jobs))
    names = [f"figure.{suffix}" for suffix in ("png", form) if suffix and len(ended)]
    if names:
        figure = module.figure(ended) if exercise != "runs" else module.figure_of_epochs(ended)
        for name in names:
            write_whole(folder / name, image_of(figure, name.rpartition(".")[2], width))
    write_whole(folder / "report.md", text.encode())
    # Printed after all files are written: the reader of stdout may have ended.
    if exercise in ("none", "runs"):
        print_jobs(rows, jobs)
        print(f"table         {relative_path(folder / 'summary.csv')}")
    elif names:
        table = as_text(module.table(ended), module)
        print_table(title, list(table), table.to_numpy().tolist())
    print(f"report        {', with '.join(filter(None, [relative_path(folder / 'report.md'), ' and '.join(names)]))}")
    if answer:
        print_text(answer)


def report(module: Any, jobs: DataFrame, head: str, effort: str) -> str:
    """Return the report of an exercise in Markdown: title and answer (`head`), figure, limitations, table and setup.

    `jobs`: the rows of the runs that ended. Raises SettingError if they differ in settings that the table would pool,
    or lack a column that the table needs.
    """
    answer, limitations, rest = head.partition("**Limitations.**")
    parts = [answer.strip()]
    if len(jobs):
        require_told_apart(jobs, module.SETTINGS)
        try:
            table = as_text(module.table(jobs), module)
        except KeyError as error:
            if not re.search(r"\w[./]\w", str(error)):  # not the name of a column: a mistake in the module
                raise
            reason = "which the report of this exercise needs; its probes are in conf/exercise/"
            raise SettingError(f"no run has {one_line(error)}, {reason}") from error
        parts += [f"![{module.CAPTION}](figure.png)", f"*{module.CAPTION}*", limitations + rest, "## Results"]
        parts += [table.to_markdown(index=False, disable_numparse=True)]
    else:
        parts += ["No run has ended yet."]
    parts += ["## Setup", " ".join(module.SETUP.split()), grid(jobs), effort]
    return "\n\n".join(filter(None, parts)) + "\n"


def title_of(module: Any) -> str:
    """Return the title of a module's report: the first line of its docstring, which Python may have dropped."""
    return str(ast.get_docstring(ast.parse(inspect.getsource(module)))).partition("\n")[0]


def _no_formula(cell: Any) -> Any:
    """Return a cell of summary.csv; a text that a spreadsheet would compute gets an apostrophe."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def module_of(exercise: str) -> Any:
    """Return the exercise's module if it has a `table`, else `generic`. Imports no other exercise."""
    names = [module.name for module in pkgutil.iter_modules(timemachine.exercises.__path__)]
    module = importlib.import_module(f"timemachine.exercises.{exercise}") if exercise in names else generic
    return module if hasattr(module, "table") else generic


def require_distinguished(exercise: str, others: set[str]) -> None:
    """Raise SettingError if the report of an exercise would mix jobs that differ in settings it does not vary."""
    if others and module_of(exercise).SETTINGS is not None:
        rule = f"not varied by exercise={exercise}, whose report would mix the values; use one value"
        raise SettingError(f"{', '.join(sorted(others))}: {rule}")


def require_told_apart(jobs: DataFrame, settings: tuple[str, ...] | None) -> None:
    """Raise SettingError if jobs with the same `settings`, seed and start differ in another setting."""
    if settings is None:
        return
    names = [name for name in jobs if is_setting(name)]
    groups = jobs.groupby([name for name in (*settings, *REPEATED) if name in jobs], dropna=False)
    counts = groups[names].nunique(dropna=False).max()
    if pooled := [name for name in names if counts[name] > 1]:
        raise SettingError(
            f"jobs differ in {', '.join(pooled)}, which this report would mix; use a sweep with one value of each"
        )


def as_text(table: DataFrame, module: Any) -> DataFrame:
    """Return a table with its index as first columns and every cell formatted for printing."""
    formats: Mapping[str, str] = getattr(module, "FORMATS", {})
    columns = table.reset_index() if table.index.names != [None] else table
    return columns.apply(lambda column: column.map(lambda cell: _printed(cell, formats.get(str(column.name), ""))))


def _printed(cell: Any, form: str) -> str:
    if isinstance(cell, str):
        return cell
    if cell is None or cell is pd.NA or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if not form and isinstance(cell, float | int):
        form = ",.0f" if isinstance(cell, int) or 1000 <= abs(cell) < 1e6 else ".3g"
    return f"{cell:{form}}"


def _reference_answer(exercise: str, jobs: DataFrame) -> str:
    """Return the answer to an exercise in sweeps/reference, "" if there is none."""
    if not exercise.isidentifier():  # the name comes from a summary.json: not a path
        return ""
    recipe = "next_edition/" if "bpe" in jobs.get("data.tokens", Series()).unique() else ""
    for path in (REPOSITORY / f"sweeps/reference/{folder}{exercise}/report.md" for folder in (recipe, "")):
        if path.is_file():
            answer = " ".join(path.read_text(encoding="utf-8").split("\n\n")[1].split())
            return f"The answer of the reference sweep ({relative_path(path)}): {answer}"
    return ""


def grid(jobs: DataFrame) -> str:
    """List the settings that differ between jobs, with their values."""
    varied = {name: [*jobs[name].unique()] for name in jobs if is_setting(name) and jobs[name].nunique(False) > 1}
    each = [f"`{name}`: {', '.join(map(in_short, values))}" for name, values in varied.items()]
    return f"Varied: {'; '.join(each)}.".replace("\n", " ") if each else "Nothing was varied."


def effort(jobs: Jobs) -> str:
    """Return the number of jobs, their statuses, their duration and their machines."""
    summaries = [run.summary for run in jobs.values()]
    statuses = [summary["status"] for summary in summaries]
    ended = ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))
    ran = [summary for summary in summaries if summary["seconds"]]
    spans = [(datetime.fromisoformat(summary["started"]).timestamp(), summary["seconds"]) for summary in ran]
    minutes, until = 0.0, 0.0  # time in which at least one job ran: a resumed sweep has gaps
    for began, seconds in sorted(spans):
        minutes += max(0.0, began + seconds - max(began, until)) / 60
        until = max(until, began + seconds)
    alone = sum(seconds for _, seconds in spans) / 60
    total = f"{len(jobs)} runs ({ended}) in {minutes:.1f} minutes; {alone:.1f} one after another"
    machines = dict.fromkeys(summary["machine"] for summary in ran if "machine" in summary)
    return f"{'. '.join(filter(None, [total, '; '.join(machines)]))}."

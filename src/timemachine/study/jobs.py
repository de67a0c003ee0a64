"""The jobs of a sweep, or of any folder of runs: their table, written and printed."""

import math
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timemachine.config import format_value, short
from timemachine.errors import SettingError
from timemachine.run.console import print_table, print_text
from timemachine.run.run import METRIC, Run, is_running, load_run, run_folders
from timemachine.run.summary import flat, new_summary

if TYPE_CHECKING:
    from pandas import DataFrame

NUM_SHOWN = 6  # settings that the printed table shows
FIRST_COLUMNS, LAST_COLUMNS = ["job", "status"], ["message", "folder"]
TEXT = "sha256"  # of a text's files; in no table
SYMBOLS = ("vocabulary", "unknown")  # sizes of a vocabulary, on which perplexities depend
NOT_FINITE = ("nan", "inf", "-inf")  # numbers that JSON lacks, as texts
# Derived settings, paths inside the run's folder, and settings without effect on the training.
DERIVED = re.compile(r"tags|(network|rates)\..*|callbacks.*\.(folder|\w*dir\w*)|logger\..*|trainer\.plugins.*")
Jobs = Mapping[str, Run]  # by their folders, relative to the sweep's


def load_jobs(folder: Path, prefix: str = "") -> dict[str, Run]:
    """Return the jobs of a sweep, in the order of their numbers, with `prefix` before their names.

    Raises SettingError for a folder without a job.
    """
    if not (places := run_folders(folder)):
        raise SettingError(f"{folder}: no run found; use a folder with runs, such as a sweep's or outputs/<date>")
    return {f"{prefix}{place.relative_to(folder)}": load_job(place) for place in places}


def load_job(folder: Path) -> Run:
    """Return the run in a job's folder.

    Its status is `damaged` if summary.json is, and `failed` if there is none or if its process was killed.
    """
    try:
        run = load_run(folder)
    except SettingError as error:
        status = "damaged" if (folder / "summary.json").exists() else "failed"
        return Run(folder, new_summary({"data": {}}, [], "") | {"status": status, "message": str(error)})
    if run.summary["status"] == "running" and not is_running(folder):
        run.summary["status"], run.summary["message"] = "failed", "its process was killed"
    return run


def settings_of(run: Run) -> dict[str, Any]:
    """Return the settings of a run by their dotted names, without `DERIVED` ones."""
    return {name: value for name, value in flat(run.settings).items() if not DERIVED.fullmatch(name)}


def rows_of(jobs: Jobs) -> list[dict[str, Any]]:
    """Return a row per job: name, status, settings, final numbers, measurements of probes, message, folder.

    Measurements have names such as `stream/val/bits`; lists are only in summary.json.
    """
    rows = [
        {"job": name, "status": run.summary["status"]}
        | {name: format_value(value) if isinstance(value, list) else value for name, value in settings_of(run).items()}
        | {name: value for name, value in run.summary["corpus"].items() if name in (TEXT, *SYMBOLS)}
        | ({"parameters": run.summary["parameters"]} if "parameters" in run.summary else {})
        | run.metrics
        | dict(_measurements("", run.summary["probes"]))
        | {"message": run.summary["message"], "folder": str(run.folder)}
        for name, run in jobs.items()
    ]
    # A copy of `seed` was not typed.
    if all(row.get("data.seed", row.get("seed")) == row.get("seed") for row in rows):
        rows = [{name: value for name, value in row.items() if name != "data.seed"} for row in rows]
    return rows


def table_of(rows: list[dict[str, Any]]) -> "DataFrame":
    """Return the table in summary.csv: the rows of the jobs, without settings that do not vary."""
    from pandas import DataFrame

    table = DataFrame(rows, dtype=object)  # as objects: floats hold missing integers
    table = table.drop(columns=["optimized_metric", TEXT], errors="ignore")
    # Jobs that failed before they read their settings or the text lack these columns, which is no variation.
    ran, read = (table[table[name].notna()] if name in table else table for name in ("seed", "vocabulary"))
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
    table = table_of(rows_of(load_jobs(Path(folder))))
    rows: list[dict[str, Any]] = table.where(table.notna(), None).to_dict("records")
    return rows


def exercise_of(jobs: Jobs) -> str:
    """Return the exercise that all jobs belong to, or `none` if they do not share one."""
    names = {run.summary["exercise"] for run in jobs.values()} - {""}
    return names.pop() if len(names) == 1 else "none"


def metric_of(jobs: "DataFrame") -> str:
    """Return the metric that compares jobs: `optimized_metric`, or bits per byte where vocabularies differ."""
    if "vocabulary" in jobs and jobs["vocabulary"].nunique() > 1:
        return "val/bits_per_byte"
    recorded = jobs["optimized_metric"].dropna() if "optimized_metric" in jobs else ()
    return str(next(iter(recorded), METRIC))


def have_one_text(jobs: "DataFrame") -> bool:
    """Return whether jobs can be ranked: a score depends on its text."""
    return TEXT not in jobs or jobs[TEXT].nunique() < 2


def print_jobs(rows: list[dict[str, Any]], jobs: Jobs) -> None:
    """Print a line per job, the lowest `metric_of` first, and the command that trains the best one alone.

    Of jobs with different texts none is the best one. A line has the status, scores, and the first varied settings; all
    are in summary.csv.
    """
    from pandas import DataFrame

    table, frame = table_of(rows), DataFrame(rows)
    metric, is_ranked = metric_of(frame), have_one_text(frame)
    scores = table.reindex(columns=[metric])[metric].astype(float).where(table["status"] == "completed")
    if is_ranked:
        table = table.loc[scores.sort_values(kind="stable").index]
    settings = [name for name in table if is_setting(name)]
    names = dict.fromkeys(["train/perplexity", "val/perplexity", "test/perplexity", "val/bits_per_byte", metric])
    metrics = [name for name in names if name in table]
    cells = table[["job", "status", *settings[:NUM_SHOWN], *metrics]].map(in_short)
    for name in metrics:
        cells[name] = table[name].astype(float).map(short)
    columns = [name.removesuffix("/perplexity") for name in cells]
    print_table(f"jobs, the lowest {metric} first" if is_ranked else "jobs", columns, cells.to_numpy().tolist())
    if settings[NUM_SHOWN:]:
        print_text(f"also varied, see summary.csv: {', '.join(settings[NUM_SHOWN:])}")
    best = table["job"].iloc[0]
    words = jobs[best].summary["overrides"]
    if len(jobs) > 1 and is_ranked and words and scores.notna().any():
        print_text(f"best          job {best}: {shlex.join(['python', 'train.py', *words])}")


def _measurements(name: str, measured: Any) -> Iterable[tuple[str, Any]]:
    """Yield the numbers and texts in nested dicts, with their names joined by `/`."""
    if isinstance(measured, dict):
        for key, value in measured.items():
            yield from _measurements(f"{name}/{key}".lstrip("/"), value)
    elif isinstance(measured, int | float) or measured in NOT_FINITE:
        yield name, float(measured)
    elif isinstance(measured, str):
        yield name, measured

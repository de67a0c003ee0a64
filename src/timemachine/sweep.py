"""What a multirun leaves in its folder, read back: jobs with settings, numbers and curves; and how to show them."""

import csv
import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timemachine.record import read_summary

if TYPE_CHECKING:
    from rich.table import Table


def sweep_rows(folder: Path) -> list[dict[str, Any]]:
    """A row a job: its number, status, the settings that vary, final numbers, message, folder."""
    jobs = job_folders(folder)
    summaries = [summary_or_failure(job) for job in jobs]
    settings = [flat(summary["settings"]) for summary in summaries]
    names = list(dict.fromkeys(name for job in settings for name in job if name != "resume"))
    varying = [name for name in names if len({repr(job.get(name)) for job in settings if job}) > 1]
    metrics = list(dict.fromkeys(name for summary in summaries for name in summary["metrics"]))
    return [
        {"job": job.name, "status": summary["status"]}
        | {name: of_job.get(name, "") for name in varying}
        | {name: summary["metrics"].get(name, "") for name in metrics}
        | {"message": summary["message"] or "", "folder": str(job)}
        for job, summary, of_job in zip(jobs, summaries, settings, strict=True)
    ]


def job_folders(folder: Path) -> list[Path]:
    """The jobs of a sweep that began, in the order of their numbers."""
    return sorted((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))


def summary_or_failure(job: Path) -> dict[str, Any]:
    """summary.json of a job; one that says that the job failed, where it is not there or does not know how it ended."""
    try:
        summary = read_summary(job)
        if not all(isinstance(number, float | int | str) for number in summary["metrics"].values()):
            raise ValueError
        summary.setdefault("message", None)
    except (OSError, ValueError):
        return {"status": "failed", "message": "ended before it wrote summary.json", "settings": {}, "metrics": {}}
    if summary["status"] == "running":  # killed from outside
        return summary | {"status": "failed", "message": "ended without a word"}
    return summary


def flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted name -> value."""
    dotted: dict[str, Any] = {}
    for name, value in nested.items():
        dotted |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return dotted


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

    def epochs(self) -> list[dict[str, float]]:
        """metrics.csv, a row an epoch; not a number where a cell is empty."""
        return read_rows(self.folder / "metrics.csv")

    def stream(self, split: str) -> float:
        """Stream perplexity of train, val or test, as `probes=[stream]` measured it; not a number where it did not."""
        return float(self.probes.get("stream", {}).get(split, {}).get("perplexity", math.nan))

    def steps(self) -> list[dict[str, float]]:
        """steps.csv, a row a step."""
        return read_rows(self.folder / "steps.csv")


def load_jobs(folder: Path) -> list[Job]:
    """The jobs of a sweep that began, in the order of their numbers."""
    jobs = []
    for path in job_folders(folder):
        summary = summary_or_failure(path)
        jobs.append(
            Job(
                path,
                summary["status"],
                summary["message"] or "",
                flat(summary["settings"]),
                {name: float(value) for name, value in summary["metrics"].items()},
                summary.get("seconds", math.nan),
                summary.get("started", ""),
                summary.get("probes", {}),
            )
        )
    return jobs


def grouped(jobs: Iterable[Job], *names: str) -> dict[tuple[Any, ...], list[Job]]:
    """The jobs by their values of these settings, in the order in which the values first come."""
    groups: dict[tuple[Any, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(job.settings.get(name) for name in names), []).append(job)
    return groups


def read_rows(path: Path) -> list[dict[str, float]]:
    """A table of numbers; an empty cell is not a number, a file that is not there has no row."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            {name: float(value) if value else math.nan for name, value in row.items()} for row in csv.DictReader(file)
        ]


def mean_sd(values: Iterable[float]) -> str:
    """Mean ± standard deviation, or the one value, or a dash for none."""
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        return "–"
    if len(numbers) == 1 or not all(map(math.isfinite, numbers)):
        return short(statistics.fmean(numbers))
    mean, deviation = statistics.fmean(numbers), statistics.stdev(numbers)
    return f"{mean:.2f} ± {deviation:.2f}" if mean < 1e4 else f"{mean:.1e} ± {deviation:.1e}"


def short(perplexity: float) -> str:
    """Three decimals, unless that is a line of digits."""
    return f"{perplexity:.3f}" if perplexity < 1e6 else f"{perplexity:.3g}"


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """A table as Markdown has it."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (columns, ["---"] * len(columns), *rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def print_table(table: "Table") -> None:
    """Print a table whole: on a narrow terminal its lines are longer than the screen, but no number is cut."""
    from rich.console import Console

    needed = Console(width=1000).measure(table).maximum
    Console(width=max(Console().width, needed)).print(table)


def print_jobs(rows: list[dict[str, Any]]) -> None:
    """A line a job."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    metrics = ("train/perplexity", "val/perplexity", "test/perplexity")
    settings = [name for name in rows[0] if name in ("job", "status", "seed") or "." in name]
    shown = settings + [name for name in metrics if name in rows[0]]
    table = Table(
        *(name.removesuffix("/perplexity") for name in shown), box=box.SIMPLE_HEAD, title="perplexity of each job"
    )
    for row in rows:
        table.add_row(
            *(f"{row[name]:.4g}" if isinstance(row[name], float) else escape(str(row[name])) for name in shown)
        )
    print_table(table)
    for row in rows:
        if row["message"]:
            print(f"job {row['job']}: {row['message']}")

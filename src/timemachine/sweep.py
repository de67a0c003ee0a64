"""What a multirun leaves: summary.csv, a row a job, and the same as a table on the terminal."""

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from timemachine.record import read_summary

if TYPE_CHECKING:
    from rich.table import Table


class SweepSummary(Callback):
    """Hydra calls it when all jobs of a multirun have ended; the exit status is 1 if one of them failed."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write summary.csv into the sweep's folder, print it, and exit with 1 if a job failed."""
        folder = Path(config.hydra.sweep.dir)
        rows = sweep_rows(folder)
        if not rows:
            sys.exit(1)
        with (folder / "summary.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        _print(rows, folder)
        if failed := [row["job"] for row in rows if row["status"] not in ("completed", "diverged")]:
            sys.exit(f"error: {len(failed)} of {len(rows)} jobs failed (job {', '.join(failed)})")


def sweep_rows(folder: Path) -> list[dict[str, Any]]:
    """A row a job: its number, status, the settings that vary, final numbers, message, folder."""
    jobs = sorted((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    summaries = [_summary_or_failure(job) for job in jobs]
    settings = [_flat(summary["settings"]) for summary in summaries]
    names = list(dict.fromkeys(name for flat in settings for name in flat))
    varying = [name for name in names if len({repr(flat.get(name)) for flat in settings if flat}) > 1]
    metrics = list(dict.fromkeys(name for summary in summaries for name in summary["metrics"]))
    return [
        {"job": job.name, "status": summary["status"]}
        | {name: flat.get(name, "") for name in varying}
        | {name: summary["metrics"].get(name, "") for name in metrics}
        | {"message": summary["message"] or "", "folder": str(job)}
        for job, summary, flat in zip(jobs, summaries, settings, strict=True)
    ]


def _summary_or_failure(job: Path) -> dict[str, Any]:
    try:
        summary = read_summary(job)
    except (OSError, ValueError):
        return {"status": "failed", "message": "ended before it wrote summary.json", "settings": {}, "metrics": {}}
    if summary["status"] == "running":  # killed from outside
        return summary | {"status": "failed", "message": "ended without a word"}
    return summary


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def print_table(table: "Table") -> None:
    """Print a table whole: on a narrow terminal its lines are longer than the screen, but no number is cut."""
    from rich.console import Console

    needed = Console(width=1000).measure(table).maximum
    Console(width=max(Console().width, needed)).print(table)


def _print(rows: list[dict[str, Any]], folder: Path) -> None:
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
    print(f"table  {folder}/summary.csv")
    for row in rows:
        if row["message"]:
            print(f"job {row['job']}: {row['message']}")

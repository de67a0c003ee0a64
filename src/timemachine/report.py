"""Summarize runs, or write a sweep's report again: python -m timemachine.report sweeps/<exercise>/<date_time>."""

import argparse
import sys
from pathlib import Path

from timemachine.errors import SettingError
from timemachine.exercises.sweep_report import write_results
from timemachine.run.console import print_text, printable
from timemachine.run.files import cannot_write
from timemachine.run.jobs import exercise_of, load_jobs


def main() -> None:
    """Write summary.csv and report.md for the sweep, or the runs, below the given folder."""
    about = "Summarize the runs below a folder in summary.csv and report.md; for an exercise, write its own report."
    parser = argparse.ArgumentParser(prog="python -m timemachine.report", description=about)
    parser.add_argument("folder", nargs="?", help="for example sweeps/clipping/<date_time> or outputs/<date>")
    if not (typed := parser.parse_args().folder):
        sys.exit(f"error: no folder; type {parser.prog} sweeps/<date_time>, or another folder with runs")
    folder = Path(typed)
    try:
        jobs = load_jobs(folder)
        write_results(folder, exercise_of(jobs), jobs)
        for job in jobs:
            if job.message:
                print_text(f"job {job.name}: {job.message}")
    except SettingError as error:
        sys.exit(printable(f"error: {error}"))
    except OSError as error:
        if not cannot_write(folder, error):
            raise
        sys.exit(f"error: {error.filename or folder}: {error.strerror}; use a copy in a writable folder")


if __name__ == "__main__":
    main()

"""Write a sweep's report anew: python -m timemachine.report sweeps/<exercise>/<date_time>."""

import argparse
import sys
from pathlib import Path

from timemachine.cli.resuming import exercise_of
from timemachine.cli.streams import go_on_without_output
from timemachine.exercises.report import write_report
from timemachine.runs.files import cannot_write
from timemachine.runs.sweep import sweep_rows, write_table


def main() -> None:
    """Write summary.csv and report.md of the sweep whose folder is typed."""
    go_on_without_output()
    parser = argparse.ArgumentParser(prog="python -m timemachine.report", description="Write a sweep's report anew.")
    parser.add_argument("folder", nargs="?", default="", help="of a sweep, such as sweeps/clipping/<date_time>")
    folder = Path(parser.parse_args().folder)
    try:
        exercise = exercise_of(folder)
    except ValueError as error:
        sys.exit(f"error: {error}; type one that train.py printed")
    try:
        if not (rows := sweep_rows(folder)):
            sys.exit(f"error: {folder}: has no jobs; type the folder that train.py printed")
        write_table(rows, folder)
        write_report(folder, exercise)
    except OSError as error:
        if not cannot_write(folder, error):
            raise
        sys.exit(f"error: {error.filename or folder}: {error.strerror}; type a copy, in a folder where one can write")


if __name__ == "__main__":
    main()

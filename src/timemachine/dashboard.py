"""Save the workspace of a project in W&B, or publish the report of a sweep there.

python -m timemachine.dashboard project=timemachine entity=me
python -m timemachine.dashboard report=sweeps/clipping/<date_time>
"""

import argparse
import os
import sys
from difflib import get_close_matches
from pathlib import Path

from timemachine.cli.streams import go_on_without_output
from timemachine.errors import SettingError, UserError, one_line
from timemachine.weights_and_biases.report import blocks, publish
from timemachine.weights_and_biases.workspace import NAME, PROJECT, SECTIONS, save, summary_of

SETTINGS = {
    "project": f"W&B's project; WANDB_PROJECT, or {PROJECT}, if left out",
    "entity": "its owner, a user or a team; the API key's own if left out",
    "baseline": "folder of a run to compare all others with; n-grams of its text become lines in the panels",
    "report": "folder of a sweep, whose report.md becomes a report of W&B, in place of the workspace",
}
FLAGS = ("-h", "--help", "--dry-run")


def checked_arguments(arguments: list[str]) -> dict[str, str]:
    """The settings that were typed. Raises SettingError for a name that does not exist, or has no value."""
    typed = dict[str, str]()
    for argument in arguments:
        name, _, value = argument.partition("=")
        if argument in FLAGS:
            continue
        if name not in SETTINGS:
            nearest = (get_close_matches(name, [*SETTINGS, *FLAGS], 1, 0.6) or ["--help"])[0]
            instead = f"{nearest}={value or '…'}" if nearest in SETTINGS else nearest
            raise SettingError(f"{argument}: there is no setting of that name; type {instead}")
        if not value:
            raise SettingError(f"{argument}: has no value; type {name}=<{SETTINGS[name]}>")
        typed[name] = value
    return typed


def main() -> None:
    """`python -m timemachine.dashboard project=… entity=…`."""
    go_on_without_output()
    parser = argparse.ArgumentParser(
        prog="python -m timemachine.dashboard",
        description=f"Save the workspace {NAME!r} in a project of W&B, or publish the report of a sweep there.",
    )
    parser.add_argument(
        "settings", nargs="*", metavar="name=value", help="; ".join(f"{n}=<{w}>" for n, w in SETTINGS.items())
    )
    parser.add_argument("--dry-run", action="store_true", help="print the panels, or the report's blocks; save nothing")
    try:
        typed = checked_arguments(sys.argv[1:])
        dry_run, folder = parser.parse_intermixed_args().dry_run, typed.pop("report", None)
        project = {"project": os.environ.get("WANDB_PROJECT") or PROJECT}
        if folder is not None:
            if "baseline" in typed:
                raise SettingError("baseline=: is a setting of the workspace; type it without report=")
            if dry_run:
                title, parts = blocks(Path(folder))
                print(title, *parts, sep="\n  ")
            else:
                print(publish(Path(folder), **project | typed))
        elif dry_run:
            if "baseline" in typed:
                summary_of(typed["baseline"])
            for name, panels in SECTIONS.items():
                print(name, *panels, sep="\n  ")
        else:
            print(save(**project | typed))
    except UserError as error:
        sys.exit(f"error: {one_line(error)}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()

"""Save the workspace of a project in W&B, or publish the report of a sweep there.

python -m timemachine.dashboard project=timemachine entity=me
python -m timemachine.dashboard report=sweeps/clipping/<date_time>
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from timemachine.errors import SettingError, UserError, one_line
from timemachine.weights_and_biases import PROJECT

SETTINGS = {
    "project": f"W&B's project; WANDB_PROJECT, or {PROJECT}, if left out",
    "entity": "its owner, a user or a team; the API key's own if left out",
    "report": "folder of a sweep, whose report.md becomes a report of W&B, in place of the workspace",
}


def main() -> None:
    """Do what was typed: `python -m timemachine.dashboard project=… entity=…`."""
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m timemachine.dashboard", description=__doc__, formatter_class=as_written)
    help_of_settings = "; ".join(f"{name}=<{what}>" for name, what in SETTINGS.items())
    parser.add_argument("settings", nargs="*", metavar="name=value", help=help_of_settings)
    parser.add_argument("--dry-run", action="store_true", help="print the panels, or the report's blocks; save nothing")
    typed = parser.parse_intermixed_args()
    try:
        settings = dict(argument.partition("=")[::2] for argument in typed.settings)
        for name, value in settings.items():
            if name not in SETTINGS or not value:
                raise SettingError(f"{name}={value}: expected a setting and its value; type {'=…, '.join(SETTINGS)}=…")
        print(*save_or_publish(settings, typed.dry_run), sep="\n")
    except UserError as error:
        sys.exit(f"error: {one_line(error)}")


def save_or_publish(settings: dict[str, str], dry_run: bool) -> list[str]:
    """Save or publish; return the address, or of a dry run the panels or blocks. Raise UserError for what fails."""
    try:
        from timemachine.weights_and_biases.report import blocks, publish
        from timemachine.weights_and_biases.workspace import save, sections
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed; type pip install -e '.[dashboard]'") from error
    project, entity = settings.get("project") or os.environ.get("WANDB_PROJECT") or PROJECT, settings.get("entity")
    if report := settings.get("report"):
        if not dry_run:
            return [publish(Path(report), project, entity)]
        title, found = blocks(Path(report))
        return [title, *map(_describe, found)]
    if not dry_run:
        return [save(project, entity)]
    return [line for name, panels in sections().items() for line in (name, *map(_describe, panels))]


def _describe(block: Any) -> str:
    """Return what a panel draws, or a block of a report holds, in one line."""
    names = ("title", "table_name", "with_respect_to", "media_keys", "text")
    what = next((value for name in names if (value := getattr(block, name, None))), "")
    return f"  {type(block).__name__} {one_line(what, 80)}{''.join(map(_describe, getattr(block, 'panels', [])))}"


if __name__ == "__main__":
    main()

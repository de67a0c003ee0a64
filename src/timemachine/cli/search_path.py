"""`hydra.searchpath=[<folder>]`: where Hydra looks for a user's own files beside conf/."""

import os
from importlib.resources import files
from pathlib import Path

from timemachine.cli.arguments import quoted, unquoted_path
from timemachine.cli.schema import CONF
from timemachine.errors import SettingError

NAME = "hydra.searchpath"


def searched(overrides: list[str]) -> tuple[list[Path], list[str]]:
    """Return the folders with choices, and the arguments with those folders as they are seen from anywhere.

    Raise SettingError for one that is not there.
    """
    folders, changed = [CONF], list[str]()
    for override in overrides:
        name, _, value = override.partition("=")
        if name == NAME:
            places = [unquoted_path(place.strip()) for place in value.strip("[]").split(",") if place.strip()]
            folders += map(_folder, places)
            whole = [place if "://" in place else os.path.abspath(place) for place in places]  # noqa: PTH100 (as text)
            override = f"{NAME}=[{','.join(map(quoted, whole))}]"
        changed.append(override)
    return folders, changed


def _folder(place: str) -> Path:
    scheme, _, path = place.rpartition("://")
    folder = Path(str(files(path))) if scheme == "pkg" else Path(path)
    if not folder.is_dir():
        raise SettingError(f"{NAME}={place}: there is no such folder; type {NAME}=[<a folder>]")
    return folder

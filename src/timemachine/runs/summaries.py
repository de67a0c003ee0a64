"""summary.json, and what an exported model has of it, read as if a stranger had sent it."""

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open

from timemachine.config import Data
from timemachine.errors import SettingError, one_line
from timemachine.runs.files import read_json


def read_summary(folder: Path) -> dict[str, Any]:
    """summary.json of a run. Raises OSError or ValueError where there is none that can be read."""
    summary = _summary(folder)
    for name, kind in {"status": str, "settings": dict, "metrics": dict}.items():
        if not isinstance(summary.get(name), kind):
            raise ValueError(f"{folder}/summary.json has no {name}")
    return summary


def _summary(folder: Path) -> dict[str, Any]:
    return _as_summary(read_json(folder / "summary.json"), folder / "summary.json")


def _as_summary(found: Any, path: Path) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"{path} has no run's summary")
    return found


def run_summary(run: str, setting: str = "run") -> dict[str, Any]:
    """summary.json of the run that a setting names by its folder or a checkpoint, or what an exported model has of it.

    Raises SettingError where there is none, or one that does not say on what the run was trained.
    """
    path = Path(run)
    try:
        if path.is_file() and path.suffix == ".safetensors":
            with safe_open(path, framework="numpy") as file:
                summary = _as_summary(json.loads((file.metadata() or {})["summary"]), path)
        else:
            summary = _summary(path.parents[1] if is_checkpoint(path) else path)
    except Exception as error:  # what a stranger wrote raises anything
        is_export = path.is_file() and path.suffix == ".safetensors"
        what = "is damaged, or was not exported by train.py" if is_export else "is no folder of a run"
        instead = f"type {setting}=<the folder that train.py printed at its end>"
        raise SettingError(f"{setting}={run}: {what}; {instead}") from error
    if "corpus" not in summary:
        if summary.get("status") == "running":
            raise SettingError(no_checkpoint_yet(run, setting))
        raise SettingError(f"{setting}={run}: ended before it had a text ({summary.get('message')}); type another run")
    try:
        Data(**summary["settings"]["data"])
        source = summary["corpus"]["source"]
        names = source if isinstance(source, list) and source else [source]
        if not all(str.isprintable(name) for name in (*names, summary["corpus"]["sha256"])):
            raise TypeError("the text has no name")
        if not isinstance(summary.get("metrics", {}), dict):
            raise TypeError("it has no numbers")
    except Exception as error:  # what a stranger wrote raises anything
        reason = one_line(error, 100)
        raise SettingError(f"{setting}={run}: its summary is damaged ({reason}); type another run") from error
    return summary


def is_checkpoint(path: Path) -> bool:
    """Return whether the path is a checkpoint in a run's folder, `checkpoints/best.ckpt` or `last.ckpt`."""
    return path.suffix == ".ckpt" and path.is_file()


def no_checkpoint_yet(run: str, setting: str) -> str:
    """Return the message for a run of status `running` without a checkpoint."""
    state = "has no checkpoint yet: it is running, or was killed"
    return f"{setting}={run}: {state}; type it again when its first epoch has ended, or type another run"

"""summary.json, read: what a run is and how it ended."""

import json
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import safe_open

from timemachine.errors import SettingError

A_RUN = "<the folder that train.py printed at its end>"
EXPORT = "model.safetensors"  # in a run's folder, once it has ended: its weights, and what is known of them
EPOCH_WEIGHTS = "epochs.safetensors"  # in the folder of a run that has a page: its weights after a few epochs
NOT_FINITE = ("nan", "inf", "-inf")  # numbers that JSON cannot have
LOCK = ".lock"  # in a run's folder: held as long as the process that trains there lives, however that ends


def read_summary(folder: Path) -> dict[str, Any]:
    """Return summary.json of a run's folder, its metrics as numbers. Raises OSError or ValueError if there is none."""
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    if not isinstance(summary, dict) or not {"status", "message", "settings", "metrics"} <= summary.keys():
        raise ValueError(f"{folder}/summary.json is not a run's")
    summary["metrics"] = {name: float(it) if it in NOT_FINITE else it for name, it in summary["metrics"].items()}
    return summary


def is_running(folder: Path) -> bool:
    """Return whether a process trains in the folder. Where the status is `running` and none does, it was killed."""
    if not (folder / LOCK).exists():
        return False
    try:
        with FileLock(folder / LOCK, timeout=0):
            return False
    except (Timeout, OSError):
        return True


def run_summary(run: str, setting: str = "run") -> dict[str, Any]:
    """Return the summary of the run that the setting names: a folder, also one that has an exported model alone, one of
    its checkpoints, or such a model.

    Raises SettingError where there is none, or one of a run that had not begun.
    """
    path = Path(run)
    try:
        if not (path / "summary.json").exists() and (path / EXPORT).is_file():
            path = path / EXPORT
        if path.is_file() and path.suffix != ".ckpt":
            with safe_open(path, framework="numpy") as file:
                summary: dict[str, Any] = json.loads(file.metadata()["summary"])
        else:
            summary = read_summary(folder_of(path))
    except Exception as error:  # damaged bytes raise anything
        instead = f"type {setting}={A_RUN}"
        raise SettingError(f"{setting}={run}: is not a run's folder, checkpoint or export; {instead}") from error
    if "corpus" not in summary:
        if summary["status"] == "running":
            raise SettingError(no_checkpoint_yet(run, setting))
        raise SettingError(f"{setting}={run}: ended before it had a text ({summary['message']}); type another run")
    return summary


def folder_of(run: Path) -> Path:
    """Return the folder of a run: itself, or that in which one of its checkpoints or its export lies."""
    return run if run.is_dir() else next((it for it in run.parents if (it / "summary.json").exists()), run.parent)


def no_checkpoint_yet(run: str, setting: str) -> str:
    """Return the message for a run without a checkpoint."""
    state = "has no checkpoint yet: it is running, or was killed, or keeps none"
    return f"{setting}={run}: {state}; type it again when its first epoch has ended, or type another run"


def flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values under dotted names."""
    dotted: dict[str, Any] = {}
    for name, value in nested.items():
        dotted |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return dotted

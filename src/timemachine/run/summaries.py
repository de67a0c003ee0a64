"""summary.json, read: what a run is and how it ended."""

import json
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import safe_open

from timemachine.config import Train, from_dict, to_dict
from timemachine.errors import SettingError

A_RUN = "<the folder that train.py printed at its end>"
EXPORT = "model.safetensors"  # in a run's folder, once it has ended: its weights, and what is known of them
EPOCH_WEIGHTS = "epochs.safetensors"  # in the folder of a run that has a page: its weights after a few epochs
NOT_FINITE = ("nan", "inf", "-inf")  # numbers that JSON cannot have
KINDS = {  # entry of summary.json -> what it is
    "status": str, "settings": dict, "metrics": dict, "exercise": str, "overrides": list, "corpus": dict,
    "changes": list, "probes": dict, "versions": dict, "git": dict,
}  # fmt: skip
KINDS_OF_CORPUS = {
    "name": str, "title": str, "source": str | list, "sha256": str, "characters": int, "vocabulary": int,
    "unknown": int, "left_out": int, "unigram": dict,
}  # fmt: skip
LOCK = ".lock"  # in a run's folder: held as long as the process that trains there lives, however that ends


def read_summary(folder: Path) -> dict[str, Any]:
    """Return summary.json of a run's folder, its metrics as numbers. Raises OSError or ValueError if there is none."""
    path = folder / "summary.json"
    try:
        return _checked(json.loads(path.read_text(encoding="utf-8")), {"status", "message", "settings", "metrics"})
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is not a run's: {error}") from error


def _checked(summary: Any, needed: set[str]) -> dict[str, Any]:
    """Return a summary, its metrics as numbers. Raises ValueError for an entry that is missing or of another kind."""
    if not isinstance(summary, dict) or not needed <= summary.keys():
        raise ValueError("entries are missing")
    for found, kinds in ((summary, KINDS), (summary.get("corpus", {}), KINDS_OF_CORPUS)):
        for name, kind in kinds.items():
            if name in found and not isinstance(found[name], kind):
                raise ValueError(f"{name} is of another kind")
    metrics = {name: float(it) if it in NOT_FINITE else it for name, it in summary["metrics"].items()}
    if not all(isinstance(value, int | float) for value in metrics.values()):
        raise ValueError("a metric is not a number")
    return summary | {"metrics": metrics}


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
                summary = _checked(json.loads(file.metadata()["summary"]), {"status", "settings", "metrics"})
        else:
            summary = read_summary(folder_of(path))
        if "corpus" in summary and not {"name", "title", "source", "sha256"} <= summary["corpus"].keys():
            raise ValueError("corpus lacks an entry")
        if not to_dict(Train()).keys() <= summary["settings"].keys():
            raise ValueError("settings lack a group")
        summary["settings"] = to_dict(from_dict(Train, summary["settings"]))  # checked against the schema
    except Exception as error:  # damaged bytes raise anything
        instead = f"type {setting}={A_RUN}"
        raise SettingError(f"{setting}={run}: is not a run's folder, checkpoint or export; {instead}") from error
    if "corpus" not in summary:
        if summary["status"] == "running":
            raise SettingError(no_checkpoint_yet(run, setting))
        raise SettingError(f"{setting}={run}: ended before it had a text ({summary['message']}); type another run")
    return summary


def newest_run(argument: str) -> Path:
    """Return the newest folder of a run under outputs/. Raises SettingError, about the argument, if there is none."""
    runs = [path.parent for path in Path("outputs").glob("*/*/summary.json")]  # outputs/<date>/<time>
    if not runs:
        raise SettingError(f"{argument}: no run found under outputs/; use the folder of a run")
    return max(runs)


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

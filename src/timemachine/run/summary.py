"""The content of summary.json, and the status that an exception gives a run. Imports no torch, which takes seconds."""

import functools
import json
import math
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

from timemachine.config import REPOSITORY
from timemachine.errors import Diverged, SettingError, UserError, one_line, unwrapped
from timemachine.run.files import relative_path
from timemachine.run.signals import TERMINATED

if TYPE_CHECKING:
    from timemachine.datamodule import TimeMachine

# Classes that a run's folder may name: no other name in a folder is imported.
TRUSTED_CLASSES = (
    "timemachine.language_model.RNNLMScratch",
    "timemachine.kernels.language_model.FusedRNNLM",
    "timemachine.regularized.language_model.RegularizedRNNLM",
)
PACKAGES = ("lightning", "torch", "torchmetrics", "hydra-core", "wandb", "timemachine")


class Summary(TypedDict, total=False):
    """The content of summary.json."""

    status: str  # running, completed, diverged, interrupted or failed; when read also damaged
    message: str | None
    settings: dict[str, Any]  # nested as in conf/
    metrics: dict[str, int | float]
    probes: dict[str, Any]  # name -> its measurements
    overrides: list[str]  # of the command line
    exercise: str  # "none" if there is none
    parameters: int  # number of weights
    kernel: str  # the code that computed the gradients
    corpus: dict[str, Any]  # the text: its name, hash, characters and symbols
    started: str
    seconds: float
    resumed: list[dict[str, Any]]  # the epochs after which the run was resumed
    parent: dict[str, Any]  # the run whose weights were the initial ones
    machine: str
    versions: dict[str, Any]
    git: dict[str, Any]


def new_summary(settings: dict[str, Any], overrides: list[str], exercise: str) -> Summary:
    """Return the summary of a run that starts now."""
    return {
        "status": "running", "message": None, "settings": settings, "metrics": {}, "probes": {}, "corpus": {},
        "overrides": overrides, "exercise": exercise, "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "seconds": 0.0,
    }  # fmt: skip


def about_text(data: "TimeMachine") -> dict[str, Any]:
    """Return summary.json's entries about the text."""
    from timemachine.perplexity import count_unknown  # imports torch

    text = data.corpus
    # The hash, since a file of the same name may change between a run and its resumption or evaluation.
    about: dict[str, Any] = {name: getattr(text, name) for name in ("name", "title", "source", "sha256", "left_out")}
    about |= {"characters": len(text.characters), "tokens": len(data.tokens_N), "vocabulary": len(data.vocab)}
    unknown, size = count_unknown(text.characters, data.vocab) if data.hparams["min_count"] > 1 else (0, 0)
    return about | {"unknown": unknown, "unknown_bytes": size}


def read_summary(folder: Path) -> Summary:
    """Return summary.json of a run's folder. Raises SettingError if there is none, or if it is damaged."""
    try:
        return parse_summary((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        rule = f"not a run's folder, or damaged: {one_line(error, 100)}"
        raise SettingError(f"{relative_path(folder)}: {rule}") from error


def parse_summary(text: str) -> Summary:
    """Return a summary from its JSON, with empty entries for those that it lacks. Raises ValueError."""
    summary: Any = json.loads(text)
    needed = {"status": str, "settings": dict, "metrics": dict}
    if not isinstance(summary, dict) or not all(isinstance(summary.get(name), kind) for name, kind in needed.items()):
        raise ValueError("its status, settings or metrics are missing")
    # `finite` wrote NaN and infinities as texts.
    metrics = summary["metrics"]
    summary["metrics"] = {name: float(value) if isinstance(value, str) else value for name, value in metrics.items()}
    empty: Summary = {"message": None, "probes": {}, "corpus": {}, "overrides": [], "exercise": "none", "seconds": 0.0}
    return cast(Summary, empty | summary)


def status_and_message(error: BaseException) -> tuple[str, str]:
    """Return the status and the message of a run that ended with an exception."""
    if was_interrupted(error):
        return "interrupted", "interrupted"
    # Hydra wraps an exception of a constructor in another one, whose message names the constructor only.
    error = unwrapped(error)
    message = one_line(error) if isinstance(error, UserError) else f"{type(error).__name__}: {one_line(error)}"
    return "diverged" if isinstance(error, Diverged) else "failed", message


def was_interrupted(error: BaseException | None) -> bool:
    """Return whether Ctrl-C, SIGTERM or a closed pipe has caused an exception.

    Lightning makes a SystemExit of KeyboardInterrupt.
    """
    return isinstance(error, KeyboardInterrupt | BrokenPipeError) or (
        isinstance(error, SystemExit) and (error.code == TERMINATED or isinstance(error.__context__, KeyboardInterrupt))
    )


def is_first_process() -> bool:
    """Return whether this process writes for a run, by the ranks of torchrun, Lightning and srun."""
    return not any(int(os.environ.get(rank, 0)) for rank in ("RANK", "NODE_RANK", "LOCAL_RANK", "SLURM_PROCID"))


def flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested dicts by their dotted names."""
    dotted: dict[str, Any] = {}
    for name, value in nested.items():
        dotted |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return dotted


def finite(value: Any) -> Any:
    """Return the value with NaN and infinities, which JSON lacks, as texts."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that the numbers depend on."""
    return {"python": sys.version.split()[0]} | {package: version(package) for package in PACKAGES}


@functools.cache  # all jobs of a sweep run the code that was imported once
def git_revision() -> dict[str, Any]:
    """Return the commit of the source, and whether files differ from it; None without git."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty"]
    try:
        revision = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return {"revision": None, "dirty": None}
    return {"revision": revision.removesuffix("-dirty"), "dirty": revision.endswith("-dirty")}

"""Rebuild the reference sweeps from sweeps/reference: summary.csv and, for some, arrays.npz."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import timemachine.run.program  # noqa: F401  resolvers of conf/
from tests.support.jobs import leave_job
from timemachine.config import REPOSITORY
from timemachine.exercises.history import DISTANCES
from timemachine.exercises.probes import PROBES
from timemachine.run.record import flat
from timemachine.texts import CATALOGUE

REFERENCE = REPOSITORY / "sweeps/reference"
Arrays = dict[str, np.ndarray[Any, Any]]
Job = dict[str, Any]  # settings, metrics, probes and tables


def table(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a table: numbers as such, "" as None."""
    with path.open(newline="", encoding="utf-8") as file:
        return [{column: _value(text) for column, text in row.items()} for row in csv.DictReader(file)]


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"": None, "True": True, "False": False}.get(text, text)


def leave_sweep(name: str, folder: Path) -> None:
    """Create the jobs of a reference sweep in a folder, with the numbers that its report needs."""
    path = REFERENCE / name / "arrays.npz"
    kept = dict(np.load(path, allow_pickle=False)) if path.exists() else {}
    settings, exercise = _settings(name), name.rpartition("/")[2]
    for number, row in enumerate(table(REFERENCE / name / "summary.csv")):
        job: Job = {"settings": dict(settings), "metrics": {}, "probes": {}, "tables": {}}
        for column, value in row.items():
            probe, *rest = column.split("/")
            if column in job["settings"] or column.startswith("callbacks."):
                job["settings"][column] = value
            elif value is not None and rest and probe in PROBES:
                _put(job["probes"], column.split("/"), value)
            elif value is not None and column == "parameters":
                job[column] = value
            elif value is not None and column not in ("job", "status", "message", "folder"):
                job["metrics"][column] = value
        if exercise in LISTS:
            LISTS[exercise](job, number, kept)
        leave_job(folder, number=number, status=row["status"], **job)


def _settings(name: str) -> dict[str, Any]:
    """Return the settings that all jobs of an exercise share: summary.csv has only those with several values."""
    recipe, _, exercise = name.rpartition("/")
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        cfg = compose("train", [f"exercise={exercise}", f"recipe={recipe or 'none'}"], return_hydra_config=True)
    varied = OmegaConf.to_container(cfg.hydra.sweeper).get("params", {})  # type: ignore[union-attr]
    del cfg.trainer.plugins  # a path in the run's folder
    settings: Any = {group: OmegaConf.to_container(cfg[group], resolve=True) for group in ("model", "data", "trainer")}
    fixed = {it: yaml.safe_load(str(value)) for it, value in varied.items() if "." in it and "," not in str(value)}
    return {"seed": cfg.seed} | flat(settings) | fixed


def _put(nested: dict[str, Any], names: list[str], value: float) -> None:
    for name in names[:-1]:
        nested = nested.setdefault(name, {})
    nested[names[-1]] = value


# Lists, texts and tables that summary.csv lacks. Generated texts come from the report.


def _report(name: str) -> str:
    return (REFERENCE / name / "report.md").read_text(encoding="utf-8")


def _books(job: Job, number: int, kept: Arrays) -> None:
    of_text, name = job["probes"]["books"], job["settings"]["data.corpus"]
    about = {"trained_on": name, "title": CATALOGUE[name].title}
    of_text |= about | {"train_characters": int(of_text["train_characters"])}
    for book, scores in of_text["books"].items():
        scores |= {"title": CATALOGUE[book].title, "author": CATALOGUE[book].author}


def _history(job: Job, number: int, kept: Arrays) -> None:
    """Give each excerpt the mean over excerpts."""
    key = "/".join(str(job["settings"][name]) for name in ("data.num_train", "trainer.max_steps", "data.num_steps"))
    job["probes"]["history"]["blocks"] = dict(zip(map(str, DISTANCES), kept[key].tolist(), strict=True))


def _one_hot_is_embedding(job: Job, number: int, kept: Arrays) -> None:
    """Restore the differences between the two runs: one run has zeros."""
    precision = "float64" if job["settings"]["trainer.precision"] == "64-true" else "float32"
    loss, weight, logit = kept[f"{precision}/{job['settings']['seed']}"].tolist()
    is_other = job["settings"]["model.backward"] == "bptt"
    job["probes"]["weights"] = {"weights": {"W_xh": [weight * is_other]}, "logits": [logit * is_other]}
    job["tables"]["steps"] = [{"loss": loss * is_other}] * job["metrics"]["step"]


def _sampling(job: Job, number: int, kept: Arrays) -> None:
    job["probes"]["samples"] |= {
        "cycles": kept["cycles"][number].tolist(),
        "shown": {
            name: [text] for name, text in re.findall(r"^    (\S+) +\| (.*)$", _report("sampling"), re.MULTILINE)
        },
    }


LISTS = {
    "war_of_the_worlds": _books, "other_authors": _books, "history": _history, "sampling": _sampling,
    "one_hot_is_embedding": _one_hot_is_embedding,
}  # fmt: skip

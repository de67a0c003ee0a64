"""Rebuild the reference sweeps from sweeps/reference: summary.csv and, for some, arrays.npz."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tests.support.jobs import leave_job
from timemachine.config import REPOSITORY, Train, to_dict
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
    """Return the settings that all jobs of an exercise share: the defaults, and those in its YAML files."""
    settings, (recipe, _, exercise) = flat(to_dict(Train())), name.rpartition("/")
    files = [f"recipe/{recipe}", f"exercise/{exercise}", f"grid/full/{name}"] if recipe else [f"exercise/{exercise}"]
    for file in files:
        written = yaml.safe_load((REPOSITORY / f"conf/{file}.yaml").read_text(encoding="utf-8"))
        sections = {it: written[it] for it in ("data", "model", "training", "trainer") if it in written}
        settings |= {name: value for name, value in flat(sections).items() if "${" not in str(value)}
        varied = written.get("hydra", {}).get("sweeper", {}).get("params", {})
        # summary.csv has only the settings with several values.
        settings |= {
            it: yaml.safe_load(str(value)) for it, value in varied.items() if "." in it and "," not in str(value)
        }
    return settings


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

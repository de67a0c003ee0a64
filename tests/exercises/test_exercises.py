"""The exercises as a user runs them, at their smallest, and the registry of what `probes=` measures."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

from timemachine.config import REPOSITORY
from timemachine.errors import SettingError
from timemachine.exercises import probes
from timemachine.exercises.jobs import load_jobs

EXERCISES = sorted(file.stem for file in (REPOSITORY / "conf/exercise").glob("*.yaml") if file.stem != "none")
QUICK = ("one_hot_is_embedding",)
SMOKE = ["scale=smoke", "data=sample", "hydra.launcher.n_jobs=1"]  # workers would import everything anew


@pytest.mark.parametrize("exercise", [pytest.param(e, marks=[] if e in QUICK else pytest.mark.slow) for e in EXERCISES])
def test_every_exercise_ends_in_a_report(exercise: str, program: Any, tmp_path: Path) -> None:
    done = program("train.py", f"exercise={exercise}", *SMOKE)
    assert done.returncode == 0, done.stderr
    (sweep,) = (tmp_path / "sweeps" / exercise).iterdir()
    report = (sweep / "report.md").read_text()
    for heading in ("# Exercise", "## What was run", "## Evidence"):
        assert heading in report
    assert len((sweep / "summary.csv").read_text().splitlines()) == 1 + len(load_jobs(sweep))
    before = (sweep / "report.md").read_bytes()
    (sweep / "report.md").unlink()
    assert program("-m", "timemachine.report", str(sweep)).returncode == 0
    assert (sweep / "report.md").read_bytes() == before


def test_the_names_that_users_know_measure() -> None:
    for module in probes.PROBES.values():
        assert callable(importlib.import_module(f"timemachine.exercises.{module}").measure)
    probes.check([*probes.PROBES])


@pytest.mark.parametrize("name", ["dynamic", "clipping", "how_low", "../exercises/relu"])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match=rf"^probes=\[stream,{re.escape(name)}\]: .*; type for example probes=\["):
        probes.check(["stream", name])


@pytest.mark.parametrize("name", ["samples", "books", "reading", "dynamics"])
def test_what_measures_the_books_letters_is_refused_with_all_characters(name: str) -> None:
    probes.check(["stream", "history", "weights", "hyperparameters"], tokens="characters")
    probes.check([name])
    with pytest.raises(
        SettingError, match=rf"^probes=\[{name}\]: {name} .*; type another probe, or data.tokens=letters$"
    ):
        probes.check([name], tokens="characters")


@pytest.mark.parametrize("name", ["dynamics", "weights"])
def test_what_measures_the_rnn_is_refused_with_another_cell(name: str) -> None:
    probes.check(["stream", name])
    with pytest.raises(SettingError, match=rf"^probes=\[stream,{name}\]: .*; type another probe, or model.cell=rnn$"):
        probes.check(["stream", name], "gru")

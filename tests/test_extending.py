"""What src/timemachine/README.md says of extending: its diffs are applied to a copy of the repository, and used."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from timemachine.config import REPOSITORY

README = (REPOSITORY / "src/timemachine/README.md").read_text()
DIFFS = dict(re.findall(r"### (.+?)\n.*?```diff\n(.*?)```", README, re.DOTALL))
SMALL = ["data=sample", "data.num_train=200", "data.num_val=100", "data.batch_size=64", "data.num_steps=8"]
SMALL += ["model.hiddens=6", "model.sigma=0.3", "trainer.max_epochs=2", "logger=csv"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with all of the additions."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("conf", "src"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("train.py", "evaluate.py", "generate.py"):
        shutil.copy(REPOSITORY / name, folder)
    command = ["git", "apply", "--recount", "--unidiff-zero", "-C0", "-"]  # the lines' numbers may change
    for diff in (diff for diffs in DIFFS.values() for diff in re.split(r"^(?=--- )", diffs, flags=re.MULTILINE)[1:]):
        done = subprocess.run(command, input=diff, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return folder


def run(copy: Path, name: str, *arguments: str) -> str:
    """Run a program of the copy in its folder; return what it printed."""
    environment = os.environ | {"PYTHONPATH": str(copy / "src")}
    command = [sys.executable, str(copy / name), *arguments]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_extension_is_tried_below() -> None:
    assert list(DIFFS) == ["An activation", "A cell", "An exercise", "A metric"]


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["model.activation=softsign", "model.cell=gru"])
def test_an_activation_and_a_cell_train_generate_and_are_evaluated(setting: str, copy: Path) -> None:
    folder = setting.rpartition("=")[2]
    run(copy, "train.py", *SMALL, setting, f"hydra.run.dir={folder}")
    run(copy, "train.py", f"resume={folder}", "trainer.max_epochs=3")
    with (copy / folder / "metrics.csv").open(newline="") as file:
        epochs = list(csv.DictReader(file))
    bits = [float(row["val/bits"]) for row in epochs]
    assert [2**bit for bit in bits] == pytest.approx([float(row["val/perplexity"]) for row in epochs])
    assert len(epochs) == 3
    summary = json.loads((copy / folder / "summary.json").read_text())
    assert summary["metrics"]["val/bits"] == bits[-1]
    sample = (copy / folder / "sample.txt").read_text()  # by the book's predict, through the model
    assert run(copy, "generate.py", f"run={folder}") == sample
    samples = run(copy, "generate.py", f"run={folder}/model.safetensors", "alpha=1", "num_samples=3")
    assert len(samples.splitlines()) == 3
    assert "test" in run(copy, "evaluate.py", f"run=[{folder},{folder}]", "adapt=0.01")


@pytest.mark.slow
def test_an_exercise_has_its_report(copy: Path) -> None:
    printed = run(copy, "train.py", "exercise=seeds", *SMALL)
    assert "Seeds differ by a standard deviation of" in printed
    (sweep,) = (copy / "sweeps/seeds").iterdir()
    assert "# Exercise 0: seeds" in (sweep / "report.md").read_text()

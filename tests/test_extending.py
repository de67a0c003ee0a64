"""The diffs in src/timemachine/extending.md, applied to a copy of the repository."""

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

PAGE = (REPOSITORY / "src/timemachine/extending.md").read_text()
DIFFS = dict(re.findall(r"## (.+?)\n.*?```diff\n(.*?)```", PAGE, re.DOTALL))
SMALL = ["data=sample", "data.num_train=200", "data.num_val=100", "data.batch_size=64", "data.num_steps=8"]
SMALL += ["model.hiddens=6", "model.sigma=0.3", "trainer.max_epochs=2", "logger=csv"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the repository with all of the additions."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("conf", "src"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("train.py", "evaluate.py", "generate.py"):
        shutil.copy(REPOSITORY / name, folder)
    for diff in DIFFS.values():
        assert apply(diff, folder).returncode == 0
    return folder


def apply(diff: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Apply a diff with `git apply`."""
    command = ["git", "apply", "--verbose", *options, "-"]
    return subprocess.run(command, input=diff, cwd=folder, capture_output=True, text=True, check=False)


# Runs command lines in one process, which takes seconds to start, and prints their outputs.
RUN = """
import json, sys
from tests.support.programs import assert_succeeded, call_program
outputs = []
for command in json.loads(sys.argv[1]):
    assert_succeeded(done := call_program(*command))
    outputs.append(done.stdout)
print(json.dumps(outputs))
"""


def python(copy: Path, code: str, *arguments: str) -> str:
    """Execute code with the copy's modules, in its folder, and return the output."""
    environment = os.environ | {"PYTHONPATH": f"{copy / 'src'}{os.pathsep}{REPOSITORY}"}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(copy: Path, *commands: list[str]) -> list[str]:
    """Run programs of the copy and return the output of each."""
    outputs: list[str] = json.loads(python(copy, RUN, json.dumps(commands)).splitlines()[-1])
    return outputs


def test_diffs_apply() -> None:
    """Each diff applies on its own. The tests below apply all of them."""
    assert list(DIFFS) == [
        "An activation", "A cell", "A setting, and a loss", "An optimiser, and a schedule",
        "A callback, or a logger", "An exercise", "A metric",
    ]  # fmt: skip
    for diff in DIFFS.values():
        done = apply(diff, REPOSITORY, "--check")
        assert done.returncode == 0 and "warning" not in done.stderr, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    [
        "model.activation=softsign callbacks=halve_rate callbacks.halve_rate.epochs=[1,2] training.label_smoothing=0.1",
        "model.cell=mingru training.optimizer=rmsprop training.schedule=linear model.lr=0.01",
    ],
)
def test_extensions_in_all_programs(setting: str, copy: Path) -> None:
    folder, small = re.split("[ =]", setting)[1], [*SMALL, *setting.split()]
    *_, continuation, samples, evaluation = run(
        copy,
        ["train.py", *small, f"hydra.run.dir={folder}"],
        ["train.py", f"resume={folder}", "trainer.max_epochs=3"],
        ["generate.py", f"run={folder}"],
        ["generate.py", f"run={folder}/model.safetensors", "alpha=1", "num_samples=3"],
        ["evaluate.py", f"run=[{folder},{folder}]", "adapt=0.01"],
    )
    with (copy / folder / "metrics.csv").open(newline="") as file:
        epochs = list(csv.DictReader(file))
    bits = [float(row["val/bits"]) for row in epochs]
    assert [2**bit for bit in bits] == pytest.approx([float(row["val/perplexity"]) for row in epochs])
    assert len(epochs) == 3
    assert "halve_rate" not in setting or [float(row["lr"]) for row in epochs] == [1, 0.5, 0.25]
    summary = json.loads((copy / folder / "summary.json").read_text())
    assert summary["metrics"]["val/bits"] == bits[-1]
    assert continuation == (copy / folder / "sample.txt").read_text()  # by the book's predict, through the model
    assert len(samples.splitlines()) == 3 and "test" in evaluation


# Compare minGRU with its definition, and the loss with PyTorch's label smoothing.
CHECK = """
import torch
import torch.nn.functional as F
from timemachine.config import Training
from timemachine.how_low import RNNLMBeyond

model = RNNLMBeyond(7, Training(label_smoothing=0.1), hiddens=4, sigma=0.5, cell="mingru")
X_TB, cell, H_BH = torch.randint(7, (6, 2)), model.rnn, torch.zeros(2, 4)
for X_BD, expected_BH in zip(F.one_hot(X_TB, 7).float(), model.hidden_states(X_TB.T)[0]):
    Z_BH = torch.sigmoid(X_BD @ cell.W_xz + cell.b_z)
    H_BH = (1 - Z_BH) * H_BH + Z_BH * (X_BD @ cell.W_xh + cell.b_h)
    torch.testing.assert_close(H_BH, expected_BH)
loss_BT, _ = model.losses((X_TB.T, X_TB.T), slice(0, 2))
expected = F.cross_entropy(model(X_TB.T)[0].flatten(0, 1), X_TB.T.flatten(), label_smoothing=0.1)
torch.testing.assert_close(loss_BT.mean(), expected)
"""


@pytest.mark.slow
def test_new_cell_and_loss(copy: Path) -> None:
    python(copy, CHECK)


@pytest.mark.slow
def test_a_new_exercise(copy: Path) -> None:
    (printed,) = run(copy, ["train.py", "exercise=seeds", *SMALL, "hydra.launcher.n_jobs=1"])
    assert "Seeds differ by a standard deviation of" in printed
    (sweep,) = (copy / "sweeps/seeds").iterdir()
    assert "# Exercise 0: How much of a perplexity is chance?" in (sweep / "report.md").read_text()

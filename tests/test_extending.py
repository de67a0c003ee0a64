"""The diffs in src/timemachine/extending.md, applied to a copy of the repository."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.programs import run_program
from tests.support.runs import rows, summary
from timemachine.config import REPOSITORY

PAGE = (REPOSITORY / "src/timemachine/extending.md").read_text(encoding="utf-8")
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


def run(copy: Path, name: str, *arguments: str) -> str:
    """Run a program with the copy's modules, in its folder, and return the output."""
    done = run_program(str(copy / name), *arguments, cwd=copy, PYTHONPATH=str(copy / "src"))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_diffs_apply() -> None:
    """Each diff applies on its own. The tests below apply all of them."""
    assert list(DIFFS) == [
        "An activation", "A cell", "A setting", "A loss", "An optimiser, and a schedule", "A callback, or a logger",
        "A book", "An exercise", "A metric",
    ]  # fmt: skip
    for diff in DIFFS.values():
        done = apply(diff, REPOSITORY, "--check")
        assert done.returncode == 0 and "warning" not in done.stderr, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "again"),
    [
        ("model.activation=softsign model.momentum=0.9", "callbacks=halve_rate callbacks.halve_rate.epochs=[1,2]"),
        ("model.cell=mingru model.lr=0.01", "model._target_=rmsprop.RMSpropLM"),
    ],
)
def test_extensions_in_all_programs(setting: str, again: str, copy: Path) -> None:
    """`again`: settings to repeat when the run resumes, which never builds a user's class from its folder."""
    folder, repeated = re.split("[ =]", setting)[1], again.split()
    own = [argument for argument in repeated if argument.startswith("model.")]
    run(copy, "train.py", *SMALL, *setting.split(), *repeated, f"hydra.run.dir={folder}")
    run(copy, "train.py", f"resume={folder}", *repeated, "logger=csv", "trainer.max_epochs=3")
    epochs, about = rows(copy / folder / "metrics.csv"), summary(copy / folder)
    bits = [row["val/bits"] for row in epochs]
    assert [2**bit for bit in bits] == pytest.approx([row["val/perplexity"] for row in epochs])
    assert len(epochs) == 3
    assert "halve_rate" not in again or [row["lr"] for row in epochs] == [1, 0.5, 0.25]
    assert about["metrics"]["val/bits"] == bits[-1]
    assert about["settings"]["model"]["momentum"] == (0.9 if "momentum" in setting else 0)
    sample = (copy / folder / "sample.txt").read_text()  # by the book's predict, through the model
    assert run(copy, "generate.py", f"run={folder}", *own) == sample
    assert "test" in run(copy, "evaluate.py", f"run={folder}", *own)


@pytest.mark.slow
def test_a_new_exercise(copy: Path) -> None:
    printed = run(copy, "train.py", "exercise=seeds", *SMALL, "hydra.launcher.n_jobs=1")
    assert "How much of a perplexity is chance?" in printed and "train/perplexity" in printed
    (sweep,) = (copy / "sweeps/seeds").iterdir()
    assert (sweep / "figure.png").is_file() and (sweep / "report.md").is_file()

"""The diffs in docs/extending.md, applied to a copy of the repository."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import assert_succeeded, call_program, run_program
from tests.support.runs import rows, summary, table
from timemachine.config import REPOSITORY

PAGE = (REPOSITORY / "docs/extending.md").read_text(encoding="utf-8")
DIFFS = dict(re.findall(r"## (.+?)\n.*?```diff\n(.*?)```", PAGE, re.DOTALL))
SMALL = ["data.corpus=sample", "data.num_train=200", "data.num_val=100", "data.batch_size=64", "data.num_steps=8"]
SMALL += ["model.hiddens=6", "model.sigma=0.3", "trainer.max_epochs=2", "logger=csv"]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place") / "copy"  # tests/test_commands.py writes to ../shared
    folder.mkdir()
    for name in ("conf", "src"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("train.py", "evaluate.py", "generate.py", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, folder)
    for diff in DIFFS.values():
        assert apply(diff, folder).returncode == 0
    return folder


def apply(diff: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
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
        "An activation", "A cell", "A setting", "A loss", "An optimiser, and a schedule",
        "A model of your own", "A callback, or a logger", "A book", "An exercise", "A probe", "A metric",
    ]  # fmt: skip
    for diff in DIFFS.values():
        done = apply(diff, REPOSITORY, "--check")
        assert done.returncode == 0 and "warning" not in done.stderr, done.stderr


@pytest.mark.slow
def test_diffs_pass_the_linters(copy: Path) -> None:
    """Ruff and mypy, as `make lint` runs them, on the files that the diffs add or change."""
    files = sorted({name for diff in DIFFS.values() for name in re.findall(r"^\+\+\+ b/(.+\.py)$", diff, re.MULTILINE)})
    assert len(files) >= 10
    for linter in ("ruff check --no-cache", "ruff format --no-cache --check", "mypy"):
        command = [sys.executable, "-m", *linter.split(), *files]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "typed",
    [
        "model.activation=softsign model.momentum=0.9 probes=[spectral_radius] "
        "callbacks=halve_rate callbacks.halve_rate.epochs=[1,2]",
        "model.cell=mingru model.lr=0.01 model._target_=rmsprop.RMSpropLM",
    ],
)
def test_extensions_in_all_programs(typed: str, copy: Path) -> None:
    folder = re.split("[ =]", typed)[1]
    own = [argument for argument in typed.split() if argument.startswith("model._target_=")]
    command = ["train.py", *SMALL, *typed.split(), f"hydra.run.dir={folder}"]
    run(copy, *command)
    run(copy, *command, "trainer.max_epochs=3")
    epochs, about = rows(copy / folder / "metrics.csv"), summary(copy / folder)
    bits = [row["val/bits"] for row in epochs]
    assert [2**bit for bit in bits] == pytest.approx([row["val/perplexity"] for row in epochs])
    assert len(epochs) == 3
    assert "halve_rate" not in typed or [row["lr"] for row in epochs] == [1, 0.5, 0.25]
    assert about["metrics"]["val/bits"] == bits[-1]
    assert "probes" not in typed or about["probes"]["spectral_radius"]["W_hh"] > 0
    assert about["settings"]["model"]["momentum"] == (0.9 if "momentum" in typed else 0)
    sample = (copy / folder / "sample.txt").read_text()  # by the book's predict, through the model
    assert run(copy, "generate.py", f"run={folder}", *own) == sample
    assert "test" in run(copy, "evaluate.py", f"run={folder}", *own)


@pytest.fixture
def bigrams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Add a custom model in a new folder, and return the arguments that train it."""
    assert apply(DIFFS["A model of your own"], tmp_path).returncode == 0
    monkeypatch.syspath_prepend(tmp_path)
    data = [argument for argument in SMALL if argument.startswith("data.")]
    return ["--config-dir=conf", "model=bigrams", *data, "optimized_metric=val/loss", "logger=csv"]


def test_own_model(bigrams: list[str], tmp_path: Path) -> None:
    """A run resumes as if it had not ended."""
    for folder, epochs in (("run", 2), ("whole", 4), ("run", 4)):
        assert_succeeded(call_program("train.py", *bigrams, f"trainer.max_epochs={epochs}", f"hydra.run.dir={folder}"))
    resumed, whole = (rows(tmp_path / folder / "metrics.csv") for folder in ("run", "whole"))
    assert [row["val/loss"] for row in resumed] == [row["val/loss"] for row in whole]
    named = ["~model", "+model._target_=bigrams.Bigrams"]
    without_yaml = [*named, *bigrams[2:], "trainer.max_epochs=4", "hydra.run.dir=typed"]
    assert_succeeded(call_program("train.py", *without_yaml))
    assert rows(tmp_path / "typed/metrics.csv")[-1]["val/loss"] == whole[-1]["val/loss"]
    assert not any((tmp_path / "run" / name).exists() for name in ("page.html", "sample.txt", "model.safetensors"))
    for name in ("evaluate.py", "generate.py"):
        done = call_program(name, "run=run")
        assert done.returncode == 1 and done.stderr.startswith("error: ")
    for typed in ("init_from=run", "probes=[stream]"):  # which need an RNNLMScratch
        done = call_program("train.py", *bigrams, typed)
        assert done.returncode == 1 and done.stderr.startswith(f"error: {typed}: ")
    done = call_program("train.py", *bigrams, "optimized_metric=val/perplexity", "trainer.max_epochs=1")
    assert done.returncode == 1 and "'val/perplexity'" in done.stderr and "'val/loss'" in done.stderr


@pytest.mark.parametrize("sweeper", ["basic", "optuna"])
def test_sweep_of_an_own_model(sweeper: str, bigrams: list[str], tmp_path: Path) -> None:
    """The best job comes first, with the command that trains it alone."""
    search = []
    if sweeper == "optuna":
        pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs Hydra 1.4: pip install -e '.[search]'")
        search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.sampler.seed=0"]
    typed = ["trainer.max_epochs=2", "model.lr=0.001,0.05", "hydra.sweep.dir=sweep"]
    done = call_program("train.py", "-m", *bigrams, *typed, *search)
    assert_succeeded(done)
    jobs = table(tmp_path / "sweep/summary.csv")
    best = min(jobs, key=lambda job: float(job["val/loss"]))
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("best "))
    assert f"job {best['job']}: " in line and f"model.lr={best['model.lr']}" in line
    alone = shlex.split(line.partition("train.py ")[2])
    assert_succeeded(call_program("train.py", *alone, "hydra.run.dir=alone"))
    assert summary(tmp_path / "alone")["metrics"]["val/loss"] == float(best["val/loss"])


@pytest.mark.slow
def test_a_new_exercise(copy: Path) -> None:
    printed = run(copy, "train.py", "-m", "exercise=seeds", *SMALL, "hydra.launcher.n_jobs=1")
    assert "How much of a perplexity is chance?" in printed and "train/perplexity" in printed
    (sweep,) = (copy / "sweeps/seeds").iterdir()
    assert (sweep / "figure.png").is_file() and (sweep / "report.md").is_file()

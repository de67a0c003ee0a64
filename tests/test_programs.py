"""The three programs: their output, their files, and their exit status."""

import csv
import hashlib
import math
import re
from pathlib import Path

import pytest

from tests.support.programs import Program, assert_said, assert_succeeded, call_program, run_program
from tests.support.runs import rows
from timemachine.config import REPOSITORY
from timemachine.run.checkpoint import load_model
from timemachine.run.record import read_summary

SHORT = ("data=sample", "trainer.max_epochs=2", "logger=csv")
SETTINGS = ("model.hiddens=8", "seed=1", "data.num_train=9219", "trainer.gradient_clip_val=0.15")

# The first step is so large that the loss of the second step is not finite.
EXPLODES = ("model.sigma=0.6", "model.activation=relu", "trainer.gradient_clip_val=0")


class Run:
    """A completed run or sweep of train.py: its output and its folder."""

    def __init__(self, cwd: Path, *arguments: str) -> None:
        self.done = run_program("train.py", *arguments, cwd=cwd, HOME=str(cwd))
        (self.folder,) = (*cwd.glob("outputs/*/*"), *cwd.glob("sweeps/*"))

    def text(self, name: str) -> str:
        return (self.folder / name).read_text()


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("run"), *SHORT, *SETTINGS)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Run:
    jobs = ("trainer.max_epochs=1", "model.hiddens=4,8", "seed=0,1")
    return Run(tmp_path_factory.mktemp("sweep"), "-m", *SHORT, *SETTINGS, *jobs)


# A run


def test_output(short_run: Run) -> None:
    done, epochs = short_run.done, rows(short_run.folder / "metrics.csv")
    assert_succeeded(done)
    lines = re.findall(r"^epoch +(\d+) .*? ([\d.]+) training, ([\d.]+) validation ", done.stdout, re.MULTILINE)
    names = ("epoch", "train/perplexity", "val/perplexity")
    assert [[float(number) for number in line] for line in lines] == [
        [pytest.approx(row[name], abs=0.051) for name in names] for row in epochs
    ]
    for name in ("train/perplexity", "val/perplexity", "val/bits_per_byte", "test/perplexity"):
        assert re.search(rf"^  {name} +{epochs[-1][name]:.3f} +epoch 2 *$", done.stdout, re.MULTILINE)
    assert f" validation   {short_run.text('sample.txt').rstrip()}\n" in done.stdout  # after the last epoch
    beginning, size, *_ = done.stdout.splitlines()
    assert beginning.startswith("Training an RNN with 8 hidden units on ")
    assert f"{28 * 8 + 8 * 8 + 8 + 8 * 28 + 28:,} parameters" in size
    acted = sum(row["grad_norm"] > 0.15 for row in rows(short_run.folder / "steps.csv"))
    assert 0 < acted < 20 and re.search(rf"clipping acted in +{acted} of 20 steps", done.stdout)
    assert f'"{short_run.text("sample.txt")[:-1]}"\n' in done.stdout  # without the final line break
    folder = Path(*short_run.folder.parts[-3:])  # outputs/<date>/<time>, relative to the working directory
    assert done.stdout.endswith(f" {folder}\n")


def test_files(short_run: Run) -> None:
    assert {path.name for path in short_run.folder.iterdir()} == {
        ".hydra", ".lock", "checkpoints", "epochs.safetensors", "metrics.csv", "model.safetensors", "page.html",
        "perplexity.png", "sample.txt", "steps.csv", "summary.json",
    }  # fmt: skip
    assert {path.name for path in (short_run.folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert set(SHORT + SETTINGS) == set(re.findall(r"^- (.*)$", short_run.text(".hydra/overrides.yaml"), re.MULTILINE))
    model, vocab = load_model(str(short_run.folder / "model.safetensors"))
    assert short_run.text("sample.txt") == model.predict("it has", 20, vocab) + "\n"
    assert (short_run.folder / "perplexity.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_summary(short_run: Run) -> None:
    summary, epochs = read_summary(short_run.folder), rows(short_run.folder / "metrics.csv")
    assert (summary["status"], summary["message"], summary["seed"]) == ("completed", None, 1)
    assert summary["parameters"] == 28 * 8 + 8 * 8 + 8 + 8 * 28 + 28
    assert {name: summary["metrics"][name] for name in epochs[-1]} == epochs[-1]
    assert summary["metrics"]["best_val/perplexity"] == min(row["val/perplexity"] for row in epochs)
    text = (REPOSITORY / "src/timemachine/texts/sample.txt").read_bytes()
    assert summary["corpus"]["sha256"] == hashlib.sha256(text).hexdigest()
    assert summary["corpus"]["name"] == "sample"


# The other programs on the same run


def test_generate(short_run: Run, program: Program) -> None:
    run = f"run={short_run.folder}"
    done = program("generate.py", run, "prefix=Time, traveller (it's me)!")
    model, vocab = load_model(str(short_run.folder))
    assert_succeeded(done)
    assert done.stdout == model.predict("time traveller it s me ", 20, vocab) + "\n"
    done = call_program("generate.py", run, "prefix=It", "alpha=1", "num_preds=50", "num_samples=3")
    assert_succeeded(done)
    lines = done.stdout.splitlines()
    assert len(set(lines)) == 3 and all(re.fullmatch(r"it[a-z ]{50}", line) for line in lines)
    done = call_program("generate.py", run, "prefix=It has 3 Äpfel", "num_preds=5", "num_samples=5")  # all identical
    assert done.stdout.startswith("it has pfel") and len(done.stdout.splitlines()) == 1
    greedy, removed = done.stderr.splitlines()
    assert removed.startswith("prefix: ") and "'3' 'Ä'" in removed and greedy.startswith("num_samples=5: ")


def test_checkpoints_instead_of_a_folder(short_run: Run) -> None:
    best, last = (short_run.folder / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
    assert call_program("generate.py", f"run={last}").stdout == short_run.text("sample.txt")
    done = call_program("evaluate.py", f"run={best}", "data.corpus=sample")
    assert done.returncode == 0 and "bits/char" in done.stdout, done.stderr


def test_evaluate(short_run: Run, program: Program, tmp_path: Path) -> None:
    """A list of texts gives one table."""
    (tmp_path / "letter.txt").write_text("In 1895 a café — and no other! — was open. " * 20)
    done = program("evaluate.py", f"run={short_run.folder}", "data.corpus=[sample,letter.txt]")
    assert_succeeded(done)
    assert done.stdout.count("bits/char") == 1
    row = r"^  (\w*) +(train|val|test|all) +([\d,]+) +([\d.]+) ±[\d.]+ +([\d.]+) ±[\d.]+ +([\d.]+) +([\d.]+) *$"
    parts = re.findall(row, done.stdout, re.MULTILINE)
    assert [row[:2] for row in parts] == [*(("sample", part) for part in ("train", "val", "test")), ("letter", "all")]
    metrics = read_summary(short_run.folder)["metrics"]
    for _, part, _, perplexity, *_ in parts[1:3]:  # windows from a zero state, as in training
        assert float(perplexity) == pytest.approx(metrics[f"{part}/perplexity"], abs=0.005)
    for row in parts:
        assert (
            float(row[5]) == float(row[6]) == pytest.approx(math.log2(float(row[4])), abs=0.002)
        )  # a letter is a byte
    assert "80 digits, 20 letters outside A-Z, 80 other characters" in done.stdout


# Sweeps


def test_a_sweep(sweep: Run, short_run: Run) -> None:
    """Each job has a folder and a row, and equals a single run with the same settings."""
    assert_succeeded(sweep.done)
    with (sweep.folder / "summary.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    jobs = [("0", "4", "0"), ("1", "4", "1"), ("2", "8", "0"), ("3", "8", "1")]
    assert [(row["job"], row["model.hiddens"], row["seed"]) for row in table] == jobs
    assert {name for name in table[0] if "." in name or name == "seed"} == {"model.hiddens", "seed"}  # that vary
    for row in table:
        summary = read_summary(sweep.folder / row["job"])
        assert (row["status"], row["message"]) == ("completed", "")
        assert {name: float(row[name]) for name in summary["metrics"]} == summary["metrics"]
        assert sweep.folder / row["job"] == sweep.folder.parents[1] / row["folder"]
    assert len({row["val/perplexity"] for row in table}) == 4
    assert sweep.text("3/steps.csv").splitlines() == short_run.text("steps.csv").splitlines()[:11]


# Diverging runs


def test_a_loss_that_is_not_finite(program: Program, tmp_path: Path) -> None:
    done = program("train.py", *SHORT, *EXPLODES, "hydra.run.dir=run")
    summary = read_summary(tmp_path / "run")
    assert (done.returncode, summary["status"]) == (1, "diverged")
    assert_said(done.stderr, f"error: {summary['message']}")
    assert "epoch 1, step 2" in done.stderr and "trainer.gradient_clip_val=1" in done.stderr
    first, second = rows(tmp_path / "run/steps.csv")
    assert f"{first['grad_norm']:.4g}" in done.stderr  # the last finite norm
    assert not math.isfinite(second["loss"])


def test_worse_than_guessing(tmp_path: Path) -> None:
    done = call_program("train.py", *SHORT, "trainer.max_epochs=3", "model.lr=8", "hydra.run.dir=run")
    summary = read_summary(tmp_path / "run")
    assert (done.returncode, summary["status"]) == (1, "diverged")
    assert done.stderr.splitlines()[-1].startswith("error: diverged")
    assert (done.stdout + done.stderr).count(summary["message"]) == 1
    assert summary["metrics"]["val/perplexity"] > 28

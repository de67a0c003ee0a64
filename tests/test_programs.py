"""The three programs as a user runs them: what they print, what they leave behind, and how they end."""

import csv
import hashlib
import json
import math
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.programs import Done, Program, assert_said, assert_succeeded, call_program, run_program
from timemachine.config import REPOSITORY
from timemachine.runs.models import load_model

SHORT = ("data=sample", "trainer.max_epochs=2", "logger=csv")

# The last batch of an epoch has 3 windows: two processes share it unequally. Clipping acts in some of the 20 steps.
SETTINGS = ("model.hiddens=8", "seed=1", "data.num_train=9219", "trainer.gradient_clip_val=0.15")

# The first step is so large that the second's loss is not finite.
EXPLODES = ("model.sigma=0.6", "model.activation=relu", "trainer.gradient_clip_val=0")


@dataclass(frozen=True)
class Run:
    """A run of train.py that has ended: what it printed, and its folder."""

    done: Done
    folder: Path

    @property
    def summary(self) -> dict[str, Any]:
        return read_summary(self.folder)

    def text(self, name: str) -> str:
        return (self.folder / name).read_text()

    def numbers(self, name: str) -> list[dict[str, float]]:
        return [{k: float(v) if v else math.nan for k, v in row.items()} for row in rows(self.folder / name)]


def read_summary(folder: Path) -> dict[str, Any]:
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return summary


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def only(paths: Iterable[Path]) -> Path:
    (path,) = paths
    return path


Start = Callable[..., tuple[Done, Path]]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """train.py as the fixture `program` runs it, once for several tests, in a folder of its own, which it returns."""

    def run(*arguments: str) -> tuple[Done, Path]:
        cwd = tmp_path_factory.mktemp("cwd")
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith(("WANDB_", "SLURM_", "PL_"))]:
                patch.delenv(name)
            home = str(tmp_path_factory.mktemp("home"))
            return run_program("train.py", *arguments, cwd=cwd, HOME=home), cwd

    return run


@pytest.fixture(scope="module")
def short_run(start: Start) -> Run:
    done, cwd = start(*SHORT, *SETTINGS)
    return Run(done, only(cwd.glob("outputs/*/*")))


@pytest.fixture(scope="module")
def sweep(start: Start) -> Run:
    done, cwd = start("-m", *SHORT, *SETTINGS, "trainer.max_epochs=1", "model.hiddens=4,8", "seed=0,1")
    return Run(done, only(cwd.glob("sweeps/none/*")))


@pytest.fixture(scope="module")
def sweep_with_mistake(start: Start) -> Run:
    """Three jobs, of which the second cannot run."""
    done, cwd = start("-m", *SHORT, "trainer.max_epochs=1", "model.hiddens=4,0,8")
    return Run(done, only(cwd.glob("sweeps/none/*")))


# A run


def test_run_prints_a_line_an_epoch_then_table_continuation_and_folder(short_run: Run) -> None:
    done, epochs, steps = short_run.done, short_run.numbers("metrics.csv"), short_run.numbers("steps.csv")
    assert_succeeded(done)
    lines = re.findall(r"^epoch +(\d+)  train +([\d.]+)  val +([\d.]+)$", done.stdout, re.MULTILINE)
    assert lines == [
        (f"{row['epoch']:.0f}", f"{row['train/perplexity']:.3f}", f"{row['val/perplexity']:.3f}") for row in epochs
    ]
    table = done.stdout[done.stdout.index("completed: the sample text") :]
    for name in ("train/perplexity", "val/perplexity", "test/perplexity"):
        assert re.search(rf"^  {name} +{epochs[-1][name]:.3f} +epoch 2 *$", table, re.MULTILINE)
    acted = sum(row["grad_norm"] > 0.15 for row in steps)
    assert 0 < acted < 20
    assert re.search(rf"^  clipping acted in +{acted} of 20 steps +radius 0.15,", table, re.MULTILINE)
    continuation = short_run.text("sample.txt").removesuffix("\n")
    assert f'\ncontinuation  "{continuation}"\n' in table  # which may end in spaces
    folder = Path(*short_run.folder.parts[-3:])  # outputs/<date>/<time>, seen from where the program was started
    assert f"\nfigure        {folder}/perplexity.png\n" in table
    assert table.endswith(f"\nfolder        {folder}\n")


def test_run_leaves_everything_in_its_folder(short_run: Run) -> None:
    assert {path.name for path in short_run.folder.iterdir()} == {
        ".hydra",
        ".lock",
        "checkpoints",
        "metrics.csv",
        "model.safetensors",
        "page.html",
        "perplexity.png",
        "sample.txt",
        "steps.csv",
        "summary.json",
    }
    assert {path.name for path in (short_run.folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert set(SHORT + SETTINGS) == set(re.findall(r"^- (.*)$", short_run.text(".hydra/overrides.yaml"), re.MULTILINE))
    assert (short_run.folder / "perplexity.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert re.fullmatch(r"it has[a-z ]{20}\n", short_run.text("sample.txt"))


def test_steps_csv_has_a_row_a_step_and_metrics_csv_their_means(short_run: Run) -> None:
    steps, epochs = short_run.numbers("steps.csv"), short_run.numbers("metrics.csv")
    assert [(row["epoch"], row["step"]) for row in steps] == [(1 + step // 10, 1 + step) for step in range(20)]
    assert [(row["epoch"], row["step"]) for row in epochs] == [(1, 10), (2, 20)]
    for row in steps:
        assert row["grad_norm_clipped"] == pytest.approx(min(row["grad_norm"], 0.15))
    windows = [1024] * 9 + [3]
    for row, of_epoch in zip(epochs, (steps[:10], steps[10:]), strict=True):
        nll = sum(number * step["loss"] for number, step in zip(windows, of_epoch, strict=True)) / 9219
        assert row["train/perplexity"] == pytest.approx(math.exp(nll), rel=1e-6)
        assert row["val/perplexity"] < row["train/perplexity"]  # that of the epoch's end, which is better in this one
        for name in ("grad_norm", "grad_norm_clipped"):
            assert row[name] == pytest.approx(sum(step[name] for step in of_epoch) / 10)
        assert row["clip_fraction"] == pytest.approx(sum(step["grad_norm"] > 0.15 for step in of_epoch) / 10)


def test_summary_says_what_ran_and_how_it_ended(short_run: Run) -> None:
    summary, epochs = short_run.summary, short_run.numbers("metrics.csv")
    assert (summary["status"], summary["message"], summary["seed"]) == ("completed", None, 1)
    assert summary["parameters"] == 28 * 8 + 8 * 8 + 8 + 8 * 28 + 28
    assert {name: summary["metrics"][name] for name in epochs[-1]} == epochs[-1]
    assert summary["metrics"]["best_val/perplexity"] == min(row["val/perplexity"] for row in epochs)
    text = (REPOSITORY / "src/timemachine/texts/sample.txt").read_bytes()
    assert summary["corpus"]["sha256"] == hashlib.sha256(text).hexdigest()
    assert (summary["corpus"]["name"], summary["corpus"]["stands_in"]) == ("sample", False)
    assert summary["versions"]["python"] == platform.python_version()
    assert all(summary["versions"][name] == version(name) for name in ("torch", "lightning", "wandb"))


# The other programs, on that run


def test_generate_continues_any_prefix(short_run: Run, program: Program) -> None:
    done = program("generate.py", f"run={short_run.folder}", "prefix=Time, traveller (it's me)!")
    model, vocab = load_model(str(short_run.folder))
    prefix = "time traveller it s me "
    assert_succeeded(done)
    assert done.stdout == model.predict(prefix, 20, vocab) + "\n"


def test_generate_samples(short_run: Run) -> None:
    run = f"run={short_run.folder}"
    done = call_program("generate.py", run, "prefix=It", "alpha=1", "num_preds=50", "num_samples=3")
    assert_succeeded(done)
    lines = done.stdout.splitlines()
    assert all(re.fullmatch(r"it[a-z ]{50}", line) for line in lines)
    assert len(set(lines)) == 3


def test_generate_prints_the_likeliest_continuation_once(short_run: Run) -> None:
    done = call_program("generate.py", f"run={short_run.folder}", "num_samples=5")
    assert done.stdout == short_run.text("sample.txt")
    assert done.stderr == "num_samples=5: without alpha all are the same text; type alpha=1 as well\n"


def test_a_checkpoint_of_a_run_is_read_as_its_folder_is(short_run: Run, tmp_path: Path) -> None:
    best, last = (short_run.folder / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
    assert call_program("generate.py", f"run={last}").stdout == short_run.text("sample.txt")
    done = call_program("evaluate.py", f"run={best}", "data.corpus=sample")
    assert done.returncode == 0 and "bits/char" in done.stdout, done.stderr
    copy = tmp_path / "copy"
    shutil.copytree(short_run.folder, copy)
    checkpoint = torch.load(copy / "checkpoints/best.ckpt", weights_only=True)
    checkpoint["state_dict"]["b_q"][0] += 1
    torch.save(checkpoint, copy / "checkpoints/best.ckpt")
    (of_best, _), (of_last, _) = load_model(str(copy / "checkpoints/best.ckpt")), load_model(str(copy))
    assert float((of_best.b_q - of_last.b_q).detach()[0]) == pytest.approx(1)


def test_a_text_that_loses_letters_says_so_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("german.txt").write_text("viele Mädchen sehen fern " * 200, encoding="utf-8")
    typed = ["data.corpus=german.txt", "logger=csv", "model.hiddens=2", "data.num_train=64", "data.num_val=64"]
    done = call_program("train.py", *typed, "trainer.max_epochs=1")
    assert done.stdout.count("200 of 4,200 letters are not A to Z: they become spaces (4.8%)") == 1


def test_evaluate_prints_one_table_for_a_list(short_run: Run, program: Program, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("In 1895 a café — and no other! — was open. " * 20)
    done = program("evaluate.py", f"run={short_run.folder}", "data.corpus=[sample,letter.txt]")
    assert_succeeded(done)
    assert done.stdout.count("bits/char") == 1
    parts = re.findall(
        r"^  (\w*) +(train|val|test|all) +([\d,]+) +([\d.]+) ±[\d.]+ +([\d.]+) ±[\d.]+ +([\d.]+) *$",
        done.stdout,
        re.MULTILINE,
    )
    assert [row[:2] for row in parts] == [("sample", "train"), ("", "val"), ("", "test"), ("letter", "all")]
    metrics = short_run.summary["metrics"]
    for row in parts[1:3]:  # window by window from a zero state, as in training
        assert float(row[3]) == pytest.approx(metrics[f"{row[1]}/perplexity"], abs=0.005)
    for row in parts:
        assert float(row[5]) == pytest.approx(math.log2(float(row[4])), abs=0.002)
    assert "letter: normalisation made spaces of 80 digits, 20 accented letters, 80 other characters" in done.stdout


# Multiruns


def test_multirun_leaves_a_folder_a_job_and_one_table(sweep: Run) -> None:
    assert_succeeded(sweep.done)
    table = rows(sweep.folder / "summary.csv")
    jobs = [("0", "4", "0"), ("1", "4", "1"), ("2", "8", "0"), ("3", "8", "1")]
    assert [(row["job"], row["model.hiddens"], row["seed"]) for row in table] == jobs
    assert {name for name in table[0] if "." in name or name == "seed"} == {"model.hiddens", "seed"}  # those that vary
    for row in table:
        summary = read_summary(sweep.folder / row["job"])
        assert (row["status"], row["message"]) == ("completed", "")
        assert {name: float(row[name]) for name in summary["metrics"]} == summary["metrics"]
        assert sweep.folder / row["job"] == sweep.folder.parents[2] / row["folder"]
        assert re.search(rf"^  {row['job']} +completed ", sweep.done.stdout, re.MULTILINE)
    assert len({row["val/perplexity"] for row in table}) == 4


def test_job_of_a_multirun_is_the_run_that_it_would_be_alone(sweep: Run, short_run: Run) -> None:
    assert sweep.text("3/steps.csv").splitlines() == short_run.text("steps.csv").splitlines()[:11]


def test_multirun_goes_on_after_a_job_that_fails(sweep_with_mistake: Run) -> None:
    done, table = sweep_with_mistake.done, rows(sweep_with_mistake.folder / "summary.csv")
    assert [(row["model.hiddens"], row["status"]) for row in table] == [
        ("4", "completed"),
        ("0", "failed"),
        ("8", "completed"),
    ]
    message = "model.hiddens=0: must be a whole number from 1 to 8,192; type for example model.hiddens=32"
    assert [row["message"] for row in table] == ["", message, ""]
    assert read_summary(sweep_with_mistake.folder / "1")["status"] == "failed"
    assert done.returncode == 1
    assert done.stderr.endswith("error: 1 of 3 jobs failed (job 1)\n")
    assert "Traceback" not in done.stderr


# Runs that end otherwise


def test_loss_that_is_not_finite_ends_the_run_in_one_line(program: Program, tmp_path: Path) -> None:
    done = program("train.py", *SHORT, *EXPLODES, "hydra.run.dir=run")
    summary = read_summary(tmp_path / "run")
    assert done.returncode == 1
    assert re.fullmatch(r"diverged in epoch 1, step 2: .*trainer\.gradient_clip_val=1 .*", summary["message"])
    assert summary["status"] == "diverged"
    assert_said(done.stderr, f"error: {summary['message']}")
    first, second = rows(tmp_path / "run/steps.csv")
    assert f"norm {float(first['grad_norm']):.4g})" in done.stderr  # the last finite one
    assert not math.isfinite(float(second["loss"]))


def test_run_that_ends_worse_than_guessing_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = call_program("train.py", *SHORT, "trainer.max_epochs=3", "model.lr=8", "hydra.run.dir=run")
    summary = read_summary(tmp_path / "run")
    assert done.returncode == 1
    assert_said(done.stderr, f"error: diverged: {summary['message']}")
    assert summary["metrics"]["val/perplexity"] > 28
    assert summary["status"] == "diverged"
    assert "diverged: the sample text" in done.stdout


# The Time Machine


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_default_run_reaches_the_books_perplexity(seed: int, novels: Path, program: Program, tmp_path: Path) -> None:
    assert novels
    done = program("train.py", f"seed={seed}", "logger=csv", "hydra.run.dir=run")
    assert done.returncode == 0
    summary = read_summary(tmp_path / "run")
    corpus, metrics = summary["corpus"], summary["metrics"]
    assert (corpus["name"], corpus["characters"], corpus["vocabulary"]) == ("time_machine", 173_428, 28)
    assert (metrics["epoch"], metrics["step"], metrics["clipped_steps"]) == (100, 1000, 0)
    assert 5.9 <= metrics["train/perplexity"] <= 6.4
    assert 7.0 <= metrics["val/perplexity"] <= 7.7


def test_sample_stands_in_for_the_default_book_after_a_loud_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short = ("trainer.max_epochs=1", "hydra.run.dir=run")
    done = call_program("train.py", "logger=csv", "data.search_dirs=[books]", *short)
    assert done.returncode == 0
    assert "!" * 70 in done.stderr
    assert "SAMPLE" in done.stderr
    assert "books/time_machine.txt\n" in done.stderr  # where to put it
    corpus = read_summary(tmp_path / "run")["corpus"]
    assert (corpus["name"], corpus["stands_in"]) == ("sample", True)
    assert "completed: the sample text" in done.stdout

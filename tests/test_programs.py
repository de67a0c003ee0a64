"""The three programs as a user runs them: what they print, what they leave behind, and how they end."""

import csv
import hashlib
import math
import re
from pathlib import Path

import pytest

from generate import set_apart
from tests.support.programs import Program, assert_said, assert_succeeded, call_program, run_program
from tests.support.runs import rows as numbers
from timemachine.config import REPOSITORY
from timemachine.corpus import find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.perplexity import unigram_perplexity
from timemachine.run.checkpoint import load_model
from timemachine.run.record import read_summary

SHORT = ("data=sample", "trainer.max_epochs=2", "logger=csv")

# The last batch of an epoch has 3 windows: two processes share it unequally. Clipping acts in some of the 20 steps.
SETTINGS = ("model.hiddens=8", "seed=1", "data.num_train=9219", "trainer.gradient_clip_val=0.15")

# The first step is so large that the second's loss is not finite.
EXPLODES = ("model.sigma=0.6", "model.activation=relu", "trainer.gradient_clip_val=0")


class Run:
    """A run or a sweep of train.py that has ended: what it printed, and what is in its folder."""

    def __init__(self, cwd: Path, *arguments: str) -> None:
        self.done = run_program("train.py", *arguments, cwd=cwd, HOME=str(cwd))
        (self.folder,) = (*cwd.glob("outputs/*/*"), *cwd.glob("sweeps/*"))

    def text(self, name: str) -> str:
        return (self.folder / name).read_text()

    def tables(self) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
        """The rows of metrics.csv and of steps.csv."""
        return numbers(self.folder / "metrics.csv"), numbers(self.folder / "steps.csv")

    def jobs(self) -> list[dict[str, str]]:
        with (self.folder / "summary.csv").open(newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("run"), *SHORT, *SETTINGS)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Run:
    jobs = ("trainer.max_epochs=1", "model.hiddens=4,8", "seed=0,1")
    return Run(tmp_path_factory.mktemp("sweep"), "-m", *SHORT, *SETTINGS, *jobs)


# A run


def test_run_prints_a_line_an_epoch_then_table_continuation_and_folder(short_run: Run) -> None:
    done, (epochs, steps) = short_run.done, short_run.tables()
    assert_succeeded(done)
    lines = re.findall(r"^epoch +(\d+)  train +([\d.]+)  val +([\d.]+)$", done.stdout, re.MULTILINE)
    names = ("epoch", "train/perplexity", "val/perplexity")
    assert [[float(number) for number in line] for line in lines] == [
        [pytest.approx(row[name], abs=0.0005) for name in names] for row in epochs
    ]
    table = done.stdout[done.stdout.index("completed: the sample text") :]
    for name in ("train/perplexity", "val/perplexity", "test/perplexity"):
        assert re.search(rf"^  {name} +{epochs[-1][name]:.3f} +epoch 2 *$", table, re.MULTILINE)
    acted = sum(row["grad_norm"] > 0.15 for row in steps)
    assert 0 < acted < 20
    assert re.search(rf"^  clipping acted in +{acted} of 20 steps +radius 0.15,", table, re.MULTILINE)
    assert f'\ncontinuation  "{short_run.text("sample.txt")[:-1]}"\n' in table  # without the end of the line
    folder = Path(*short_run.folder.parts[-3:])  # outputs/<date>/<time>, seen from where the program was started
    assert table.endswith(f"\nfolder        {folder}\n")


def test_run_leaves_everything_in_its_folder(short_run: Run) -> None:
    assert {path.name for path in short_run.folder.iterdir()} == {
        ".hydra", ".lock", "checkpoints", "epochs.safetensors", "metrics.csv", "model.safetensors", "page.html",
        "perplexity.png", "sample.txt", "steps.csv", "summary.json",
    }  # fmt: skip
    assert {path.name for path in (short_run.folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert set(SHORT + SETTINGS) == set(re.findall(r"^- (.*)$", short_run.text(".hydra/overrides.yaml"), re.MULTILINE))
    model, vocab = load_model(str(short_run.folder / "model.safetensors"))
    assert short_run.text("sample.txt") == model.predict("it has", 20, vocab) + "\n"
    assert (short_run.folder / "perplexity.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_metrics_csv_has_the_means_of_steps_csv(short_run: Run) -> None:
    epochs, steps = short_run.tables()
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
    summary, (epochs, _) = read_summary(short_run.folder), short_run.tables()
    assert (summary["status"], summary["message"], summary["seed"]) == ("completed", None, 1)
    assert summary["parameters"] == 28 * 8 + 8 * 8 + 8 + 8 * 28 + 28
    assert {name: summary["metrics"][name] for name in epochs[-1]} == epochs[-1]
    assert summary["metrics"]["best_val/perplexity"] == min(row["val/perplexity"] for row in epochs)
    text = (REPOSITORY / "src/timemachine/texts/sample.txt").read_bytes()
    assert summary["corpus"]["sha256"] == hashlib.sha256(text).hexdigest()
    assert summary["corpus"]["name"] == "sample"
    data = TimeMachine(num_train=9219, corpus=find_corpus("sample", []))
    assert summary["corpus"]["unigram"] == {f"{it}/perplexity": unigram_perplexity(data, it) for it in ("train", "val")}


# The other programs, on that run


def test_generate_continues_any_prefix(short_run: Run, program: Program) -> None:
    done = program("generate.py", f"run={short_run.folder}", "prefix=Time, traveller (it's me)!")
    model, vocab = load_model(str(short_run.folder))
    prefix = "time traveller it s me "
    assert_succeeded(done)
    assert done.stdout == model.predict(prefix, 20, vocab) + "\n"


def test_generate_names_what_becomes_spaces(short_run: Run) -> None:
    done = call_program("generate.py", f"run={short_run.folder}", "prefix=It has 3 Äpfel, 33", "num_preds=5")
    assert_succeeded(done)
    assert done.stdout.startswith("it has pfel ")
    (line,) = done.stderr.splitlines()
    assert line.startswith("prefix: ") and "'3' 'Ä' ','" in line
    done = call_program("generate.py", f"run={short_run.folder}", "prefix=It\thas", "num_preds=5")
    assert done.stderr == ""


def test_generate_samples(short_run: Run) -> None:
    run = f"run={short_run.folder}"
    done = call_program("generate.py", run, "prefix=It", "alpha=1", "num_preds=50", "num_samples=3")
    assert_succeeded(done)
    lines = done.stdout.splitlines()
    assert len(set(lines)) == 3 and all(re.fullmatch(r"it[a-z ]{50}", line) for line in lines)
    done = call_program("generate.py", run, "num_samples=5")
    assert done.stdout == short_run.text("sample.txt")
    assert done.stderr == "num_samples=5: without alpha all are the same text; type alpha=1 as well\n"


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        ({"TERM": "xterm"}, '"\x1b[1mit has\x1b[22m been "'),
        ({"TERM": "xterm", "NO_COLOR": "1"}, '"it has│ been "'),
        ({"TERM": "dumb"}, '"it has│ been "'),
    ],
)
def test_a_terminal_sets_the_prefix_apart(
    variables: dict[str, str], shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert set_apart("it has", " been ") == shown


def test_a_checkpoint_of_a_run_is_read_as_its_folder_is(short_run: Run) -> None:
    best, last = (short_run.folder / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
    assert call_program("generate.py", f"run={last}").stdout == short_run.text("sample.txt")
    done = call_program("evaluate.py", f"run={best}", "data.corpus=sample")
    assert done.returncode == 0 and "bits/char" in done.stdout, done.stderr


def test_evaluate_prints_one_table_for_a_list(short_run: Run, program: Program, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("In 1895 a café — and no other! — was open. " * 20)
    done = program("evaluate.py", f"run={short_run.folder}", "data.corpus=[sample,letter.txt]")
    assert_succeeded(done)
    assert done.stdout.count("bits/char") == 1
    row = r"^  (\w*) +(train|val|test|all) +([\d,]+) +([\d.]+) ±[\d.]+ +([\d.]+) ±[\d.]+ +([\d.]+) *$"
    parts = re.findall(row, done.stdout, re.MULTILINE)
    assert [row[:2] for row in parts] == [*(("sample", part) for part in ("train", "val", "test")), ("letter", "all")]
    metrics = read_summary(short_run.folder)["metrics"]
    for _, part, _, perplexity, *_ in parts[1:3]:  # window by window from a zero state, as in training
        assert float(perplexity) == pytest.approx(metrics[f"{part}/perplexity"], abs=0.005)
    for row in parts:
        assert float(row[5]) == pytest.approx(math.log2(float(row[4])), abs=0.002)
    assert "letter: normalisation made spaces of 80 digits, 20 accented letters, 80 other characters" in done.stdout


# Multiruns


def test_multirun_leaves_a_folder_a_job_and_one_table(sweep: Run) -> None:
    assert_succeeded(sweep.done)
    table = sweep.jobs()
    jobs = [("0", "4", "0"), ("1", "4", "1"), ("2", "8", "0"), ("3", "8", "1")]
    assert [(row["job"], row["model.hiddens"], row["seed"]) for row in table] == jobs
    assert {name for name in table[0] if "." in name or name == "seed"} == {"model.hiddens", "seed"}  # those that vary
    for row in table:
        summary = read_summary(sweep.folder / row["job"])
        assert (row["status"], row["message"]) == ("completed", "")
        assert {name: float(row[name]) for name in summary["metrics"]} == summary["metrics"]
        assert sweep.folder / row["job"] == sweep.folder.parents[1] / row["folder"]
    assert len({row["val/perplexity"] for row in table}) == 4


def test_job_of_a_multirun_is_the_run_that_it_would_be_alone(sweep: Run, short_run: Run) -> None:
    assert sweep.text("3/steps.csv").splitlines() == short_run.text("steps.csv").splitlines()[:11]


# Runs that end otherwise


def test_loss_that_is_not_finite_ends_the_run_in_one_line(program: Program, tmp_path: Path) -> None:
    done = program("train.py", *SHORT, *EXPLODES, "hydra.run.dir=run")
    summary = read_summary(tmp_path / "run")
    assert done.returncode == 1
    assert re.fullmatch(r"diverged in epoch 1, step 2: .*trainer\.gradient_clip_val=1 .*", summary["message"])
    assert summary["status"] == "diverged"
    assert_said(done.stderr, f"error: {summary['message']}")
    first, second = numbers(tmp_path / "run/steps.csv")
    assert f"norm {first['grad_norm']:.4g})" in done.stderr  # the last finite one
    assert not math.isfinite(second["loss"])


def test_run_that_ends_worse_than_guessing_is_marked(tmp_path: Path) -> None:
    done = call_program("train.py", *SHORT, "trainer.max_epochs=3", "model.lr=8", "hydra.run.dir=run")
    summary = read_summary(tmp_path / "run")
    assert (done.returncode, summary["status"]) == (1, "diverged")
    assert_said(done.stderr, f"error: diverged: {summary['message']}")
    assert summary["metrics"]["val/perplexity"] > 28


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

"""What the code before the second house has left (commit b50c875) loads, resumes, and gives the same numbers.

`first_house/` holds runs on the sample text, of 4 hidden units: one that has ended, one that was interrupted in its
third epoch of four, one with AdamW and an embedding, and a sweep that was interrupted in its second job of three. Paths
in their `.hydra/` are placeholders.
"""

import csv
import shutil
from pathlib import Path

import pytest

from tests.conftest import Program
from timemachine.config import REPOSITORY
from timemachine.corpus import Corpus
from timemachine.decoding import continue_text
from timemachine.evaluation.scores import evaluate
from timemachine.runs.models import load_model
from timemachine.runs.summaries import read_summary

BEFORE = Path(__file__).parent / "first_house"
SMALL = ["data=sample", "data.num_train=200", "data.num_val=100", "data.batch_size=64", "data.num_steps=8"]
SMALL += ["model.hiddens=4", "logger=csv", "trainer.enable_progress_bar=false", "trainer.max_epochs=2"]


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """A copy in which the placeholders are filled."""
    shutil.copytree(BEFORE, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.rglob("*.yaml"):
        text = path.read_text().replace("{folder}", str(tmp_path)).replace("{repository}", str(REPOSITORY))
        path.write_text(text)
    return tmp_path


def assert_same_tables(now: Path, then: Path) -> None:
    """Both tables are the same, but for the clock's column and for what another processor rounds otherwise."""
    for name in ("metrics.csv", "steps.csv"):
        with (now / name).open(newline="") as new, (then / name).open(newline="") as old:
            rows, expected = list(csv.DictReader(new)), list(csv.DictReader(old))
        assert len(rows) == len(expected)
        for row, same in zip(rows, expected, strict=True):
            assert row.keys() - {"lr"} == same.keys() | {"chars_per_second"} & row.keys()  # it logged no rate
            for column in same.keys() - {"chars_per_second"}:
                assert bool(row[column]) == bool(same[column])
                assert float(row[column] or 0) == pytest.approx(float(same[column] or 0), rel=1e-5)


def test_an_interrupted_run_is_resumed_and_ends_as_the_whole_one(before: Path, program: Program) -> None:
    done = program("train.py", "resume=interrupted")
    assert done.returncode == 0, done.stderr
    assert_same_tables(before / "interrupted", before / "whole")


def test_an_interrupted_sweep_is_resumed_without_the_job_that_had_ended(before: Path, program: Program) -> None:
    """`model.cell` did not exist then: it counts as its default."""
    ended = read_summary(before / "sweep/0")
    done = program("train.py", "-m", "seed=0,1,2", *SMALL, "resume=sweep")
    assert done.returncode == 0, done.stderr
    assert read_summary(before / "sweep/0") == ended
    for job in ("1", "2"):
        assert_same_tables(before / "sweep" / job, before / "sweep_whole" / job)


@pytest.mark.parametrize(
    ("run", "text"), [("whole/model.safetensors", "whole.generated"), ("adamw", "adamw.generated")]
)
def test_a_model_writes_the_same_text(run: str, text: str) -> None:
    model, vocab = load_model(str(BEFORE / run))
    assert continue_text(model, vocab, "it has", 40, alpha=1.0) == [(BEFORE / text).read_text().removesuffix("\n")]


@pytest.mark.parametrize(
    "run", ["adamw", "sweep/0", "interrupted", "whole/model.safetensors", "sweep/0/model.safetensors"]
)
def test_each_checkpoint_and_export_has_the_numbers_that_its_run_ended_with(run: str, sample: Corpus) -> None:
    model, vocab = load_model(str(BEFORE / run))
    summary = read_summary(BEFORE / run.removesuffix("/model.safetensors"))
    parts = {row.part: row.window.perplexity for row in evaluate(model, vocab, summary, sample)}
    for part in ("val", "test") if summary["status"] != "interrupted" else ("val",):
        assert parts[part] == pytest.approx(summary["metrics"][f"{part}/perplexity"], rel=1e-5)


def test_a_run_that_had_ended_is_tested_to_the_same_numbers_and_grows(before: Path, program: Program) -> None:
    """What AdamW remembers is read, too."""
    shutil.copytree(before / "adamw", before / "then")
    done = program("train.py", "resume=adamw")
    assert (done.returncode, done.stderr.partition(": ends")[0]) == (1, "error: diverged")  # as it had
    assert_same_tables(before / "adamw", before / "then")
    done = program("train.py", "resume=adamw", "trainer.max_epochs=3")
    assert (done.returncode, done.stderr) == (0, "")
    assert read_summary(before / "adamw")["metrics"]["epoch"] == 3


def test_a_sweep_is_reported_and_a_run_has_a_page(before: Path, program: Program) -> None:
    """What came into being later reads what was left before."""
    done = program("-m", "timemachine.report", "sweep")
    assert (done.returncode, done.stderr) == (0, "")
    assert "| 21.4" in (before / "sweep/report.md").read_text()
    for run in ("whole/model.safetensors", "sweep/0", "interrupted"):
        done = program("-m", "timemachine.page", f"run={run}")
        assert (done.returncode, done.stderr) == (0, "")


def test_a_model_is_evaluated_to_the_same_numbers(before: Path, program: Program) -> None:
    done = program("evaluate.py", "run=whole/model.safetensors", "data.corpus=sample")
    expected = (BEFORE / "whole.evaluated").read_text().replace("±nan", "")  # where one block tells no error
    assert done.stdout.replace("whole/model.safetensors", "whole").split() == expected.split(), done.stderr

"""The end of a run: its final numbers, the files it leaves, and what it prints."""

from pathlib import Path

import pytest
import torch

from timemachine.config import Train, to_dict
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.runs.letters import letters_perplexity
from timemachine.runs.models import load_model
from timemachine.runs.record import Record
from timemachine.runs.rows import final_numbers
from timemachine.runs.summaries import read_summary
from timemachine.training.ending import finish

METRICS = """\
epoch,step,train/perplexity,val/perplexity,test/perplexity,grad_norm,grad_norm_clipped,clip_fraction,chars_per_second
2,4,7.5,7.25,,2.0,0.75,1.0,2000
3,5,6.5,7.75,8.5,0.25,0.25,0.0,3000
"""
STEPS = """\
epoch,step,loss,grad_norm,grad_norm_clipped
2,4,1.75,3.0,1.0
3,5,1.5,0.25,0.25
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "metrics.csv").write_text(METRICS)
    (tmp_path / "steps.csv").write_text(STEPS)
    return tmp_path


def finished(folder: Path, corpus: Corpus, theta: float | None = 1.0) -> str:
    """Finish a run that has left its tables in the folder; return its continuation of the prefix."""
    settings = Train()
    settings.trainer.gradient_clip_val = theta
    data = TimeMachine(corpus=corpus)
    torch.manual_seed(0)
    model = RNNLMScratch(len(data.vocab))
    with Record(folder, to_dict(settings), in_sweep=False) as run:
        run.describe(data, model)
        finish(run, model, data)
    return model.predict("it has", 20, data.vocab)


def words(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_a_finished_run_leaves_its_files_and_prints_its_numbers(
    folder: Path, sample: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    continuation = finished(folder, sample)
    of_letters = read_summary(folder)["corpus"]["letters"]  # by which a report judges the run
    assert of_letters["val/perplexity"] == letters_perplexity(TimeMachine(corpus=sample), "val")
    figure = (folder / "perplexity.png").read_bytes()
    assert figure.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(figure) > 1000
    assert (folder / "sample.txt").read_text() == f"{continuation}\n"
    exported, vocab = load_model(str(folder / "model.safetensors"))
    assert exported.predict("it has", 20, vocab) == continuation
    summary = read_summary(folder)
    assert (summary["status"], summary["message"]) == ("completed", None)
    assert summary["metrics"] == final_numbers(folder)
    printed = words(capsys)
    for line in (
        "completed: the sample text",
        "train/perplexity 6.500 epoch 3",
        "val/perplexity 7.750 epoch 3",
        "test/perplexity 8.500 epoch 3",
        "best val/perplexity 7.250 epoch 2",
        "clipping acted in 1 of 2 steps radius 1, largest norm 3",
        'continuation "it has',
    ):
        assert line in printed


@pytest.mark.parametrize("theta", [None, 0.0])
def test_the_table_says_that_there_is_no_radius(
    theta: float | None, folder: Path, sample: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "steps.csv").write_text(STEPS.replace("3.0,1.0", "3.0,3.0"))
    finished(folder, sample, theta)
    assert "clipping acted in 0 of 2 steps no radius set, largest norm 3" in words(capsys)


def test_a_run_that_ends_worse_than_guessing_has_diverged(
    folder: Path, sample: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "metrics.csv").write_text(METRICS.replace("7.75", "77.5"))
    finished(folder, sample)
    printed, summary = words(capsys), read_summary(folder)
    assert "diverged: the sample text" in printed
    assert summary["status"] == "diverged"
    assert f"diverged: {summary['message']}" in printed
    assert "validation perplexity of 77.5, worse than guessing among 28" in printed


def test_a_run_without_an_epoch_can_still_be_finished(
    tmp_path: Path, sample: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(tmp_path, sample)
    printed = words(capsys)
    assert "parameters 2,876" in printed and "the last epoch has no train/perplexity and no val/perplexity" in printed
    assert not (tmp_path / "perplexity.png").exists() and "figure" not in printed

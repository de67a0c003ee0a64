"""The end of a run: its final numbers, the files it leaves, and what it prints."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from timemachine.runs.ending import final_numbers, finish

from timemachine.config import Train, to_dict
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.runs.letters import letters_perplexity
from timemachine.runs.models import load_model
from timemachine.runs.record import Record
from timemachine.runs.summaries import read_summary

METRICS = """\
epoch,step,train/perplexity,val/perplexity,test/perplexity,grad_norm,grad_norm_clipped,clip_fraction,chars_per_second
1,2,9.5,8.25,,0.75,0.5,0.5,1000
2,4,7.5,7.25,,2.0,0.75,1.0,2000
3,5,6.5,7.75,8.5,0.25,0.25,0.0,3000
"""
STEPS = """\
epoch,step,loss,grad_norm,grad_norm_clipped
1,1,2.5,0.5,0.5
1,2,2.25,1.25,1.0
2,3,2.0,1.0,1.0
2,4,1.75,3.0,1.0
3,5,1.5,0.25,0.25
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "metrics.csv").write_text(METRICS)
    (tmp_path / "steps.csv").write_text(STEPS)
    return tmp_path


def test_final_numbers_are_of_the_last_epoch_with_the_best_beside_them(folder: Path) -> None:
    assert final_numbers(folder) == {
        "epoch": 3,
        "step": 5,
        "train/perplexity": 6.5,
        "val/perplexity": 7.75,
        "test/perplexity": 8.5,
        "grad_norm": 0.25,
        "grad_norm_clipped": 0.25,
        "clip_fraction": 0.0,
        "chars_per_second": 3000.0,
        "best_val/perplexity": 7.25,
        "best_epoch": 2,
        "clipped_steps": 2,
        "num_steps_done": 5,
        "largest_grad_norm": 3.0,
    }


def test_what_was_not_measured_is_not_among_the_numbers(folder: Path) -> None:
    (folder / "metrics.csv").write_text("\n".join(METRICS.splitlines()[:2]).replace("8.25", "") + "\n")
    numbers = final_numbers(folder)
    assert numbers["train/perplexity"] == 9.5
    assert not {"val/perplexity", "test/perplexity", "best_val/perplexity", "best_epoch"} & numbers.keys()


def test_a_run_without_an_epoch_has_no_numbers(tmp_path: Path) -> None:
    assert final_numbers(tmp_path) == {}


def test_the_best_epoch_is_not_one_without_a_validation(folder: Path) -> None:
    (folder / "metrics.csv").write_text(METRICS.replace("9.5,8.25", "9.5,nan"))
    assert final_numbers(folder)["best_epoch"] == 2


def finished(folder: Path, corpus: Corpus, theta: float | None = 1.0) -> str:
    """Finish a run that has left its tables in the folder; return its continuation of the prefix."""
    settings = Train()
    settings.trainer.gradient_clip_val = theta
    data = TimeMachine(corpus=corpus)
    torch.manual_seed(0)
    model = RNNLMScratch(len(data.vocab))
    trainer: Any = SimpleNamespace(is_global_zero=True)
    with Record(folder, to_dict(settings), in_sweep=False) as run:
        run.describe(data, model)
        finish(run, trainer, model, data)
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
    assert (summary["status"], summary["message"], summary["probes"]) == ("completed", None, {})
    assert summary["metrics"] == final_numbers(folder)
    printed = words(capsys)
    for line in (
        "completed: the sample text",
        "train/perplexity 6.500 epoch 3",
        "val/perplexity 7.750 epoch 3",
        "test/perplexity 8.500 epoch 3",
        "best val/perplexity 7.250 epoch 2",
        "clipping acted in 2 of 5 steps radius 1, largest norm 3",
        'continuation "it has',
    ):
        assert line in printed


@pytest.mark.parametrize("theta", [None, 0.0])
def test_the_table_says_that_there_is_no_radius(
    theta: float | None, folder: Path, sample: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "steps.csv").write_text(STEPS.replace("1.25,1.0", "1.25,1.25").replace("3.0,1.0", "3.0,3.0"))
    finished(folder, sample, theta)
    assert "clipping acted in 0 of 5 steps no radius set, largest norm 3" in words(capsys)


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


def test_validations_in_mid_epoch_are_of_the_epoch_and_are_drawn_between(folder: Path, sample: Corpus) -> None:
    before, last = METRICS.rsplit("3,5,", 1)
    (folder / "metrics.csv").write_text(f"{before}3,4,,7.0,,,,,\n3,5,{last.replace('7.75', '')}")
    assert final_numbers(folder)["val/perplexity"] == 7.0
    assert final_numbers(folder)["train/perplexity"] == 6.5

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from timemachine.evaluation import Row, Score
from timemachine.report import SweepReport, final_numbers, finish_run, print_evaluation

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


def summary(metrics: dict[str, float], theta: float | None = 1.0, **entries: Any) -> dict[str, Any]:
    return {
        "status": "completed",
        "message": None,
        "settings": {"model": {"hiddens": 32}, "data": {"num_steps": 16}, "trainer": {"gradient_clip_val": theta}},
        "metrics": metrics,
        "corpus": {"name": "sample", "title": "the sample text", "characters": 24000, "vocabulary": 28},
        "parameters": 2876,
    } | entries


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


def words(text: str) -> str:
    return " ".join(text.split())


def test_a_finished_run_leaves_figure_and_sample_and_prints_its_numbers(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish_run(folder, summary(final_numbers(folder)), "it has a sample")
    figure = (folder / "perplexity.png").read_bytes()
    assert figure.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(figure) > 1000
    assert (folder / "sample.txt").read_text() == "it has a sample\n"
    printed = words(capsys.readouterr().out)
    for line in (
        "completed: the sample text",
        "train/perplexity 6.500 epoch 3",
        "val/perplexity 7.750 epoch 3",
        "test/perplexity 8.500 epoch 3",
        "best val/perplexity 7.250 epoch 2",
        "clipping acted in 2 of 5 steps radius 1, largest norm 3",
        "continuation it has a sample",
    ):
        assert line in printed


@pytest.mark.parametrize("theta", [None, 0.0])
def test_the_table_says_that_there_is_no_radius(
    theta: float | None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "steps.csv").write_text(STEPS.replace("1.25,1.0", "1.25,1.25").replace("3.0,1.0", "3.0,3.0"))
    finish_run(folder, summary(final_numbers(folder), theta), "")
    assert "clipping acted in 0 of 5 steps no radius set, largest norm 3" in words(capsys.readouterr().out)


def test_a_diverged_run_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish_run(folder, summary(final_numbers(folder), status="diverged", message="worse than guessing"), "")
    printed = words(capsys.readouterr().out)
    assert "diverged: the sample text" in printed
    assert "diverged: worse than guessing" in printed


def test_a_run_without_an_epoch_can_still_be_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish_run(tmp_path, summary({}), "it has")
    assert (tmp_path / "perplexity.png").stat().st_size > 1000
    assert "parameters 2,876" in words(capsys.readouterr().out)


def test_evaluation_prints_a_row_a_part_and_what_was_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    window, stream = Score(8.125, 0.25, 3.0223, 1234), Score(7.5, 0.125, 2.9069, 1203)
    replaced = {"digits": 1, "accents": 2, "other": 3000}
    rows = [Row("a", "a", part, window, stream, replaced) for part in ("train", "val")] + [
        Row("b", "b", "all", window, stream, {"digits": 0, "accents": 0, "other": 0})
    ]
    print_evaluation(rows, ["outputs/x"])
    printed = words(capsys.readouterr().out)
    assert "a train 1,203 8.12 ±0.25 7.50 ±0.12 2.907 val 1,203 8.12 ±0.25" in printed
    assert "b all 1,203" in printed
    assert "a: normalisation made spaces of 1 digits, 2 accented letters, 3,000 other characters" in printed
    assert printed.count("a: normalisation") == 1


def test_a_table_that_cannot_be_written_is_no_success(folder: Path) -> None:
    """Hydra makes a warning of an exception there."""
    (folder / "0").mkdir()
    (folder / "0" / "summary.json").write_text(json.dumps(summary({"val/perplexity": 7.0})))
    (folder / "summary.csv").mkdir()
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}})
    with pytest.raises(SystemExit, match=f"^error: {folder}/summary.csv: Is a directory; .* resume={folder}$"):
        SweepReport().on_multirun_end(config)

"""The report of exercise 9."""

from pathlib import Path

from tests.support.jobs import leave_job
from timemachine.exercises import clipping
from timemachine.runs.sweep import load_jobs


def test_clipping_has_a_row_for_each_rate_and_radius(clipping_sweep: Path) -> None:
    found = clipping.findings(load_jobs(clipping_sweep))
    cells = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    assert [(cell["learning rate η"], cell["radius θ"]) for cell in cells] == [
        ("1", "none"), ("1", "1"), ("8", "none"), ("8", "1"),
    ]  # fmt: skip
    assert [cell["diverged"] for cell in cells] == ["0 of 2", "0 of 2", "2 of 2", "1 of 2"]
    assert [cell["at epoch"] for cell in cells] == ["", "", "2", "2"]
    assert [cell["train"] for cell in cells] == ["7.50 ± 0.71", "7.50 ± 0.71", "–", "9.000"]
    assert [cell["steps clipped"] for cell in cells] == ["0%", "0%", "0%", "50%"]
    assert found.captions.keys() == found.figures.keys()


def test_clipping_answers_with_the_numbers_of_its_jobs(clipping_sweep: Path) -> None:
    found = clipping.findings(load_jobs(clipping_sweep))
    assert "(largest 0.50)" in found.answer
    assert "2 of 2 runs are the same bit for bit" in found.answer
    assert found.answer.endswith("Without clipping diverge 2 of 2 at rate 8.")
    assert "With radius 1 diverge 1 of 2 at rate 8." in found.longer


def test_runs_that_differ_in_a_digit_are_not_called_the_same(clipping_sweep: Path) -> None:
    metrics = clipping_sweep / "0/metrics.csv"
    metrics.write_text(metrics.read_text().replace("7.0", "7.0000001"))
    answer = clipping.findings(load_jobs(clipping_sweep)).answer
    assert "1 of 2 runs are the same bit for bit" in answer
    assert "nothing happens" not in answer


def test_a_short_run_that_still_falls_has_not_diverged(tmp_path: Path) -> None:
    epochs = [{"epoch": number + 1, "train/perplexity": value} for number, value in enumerate((24.0, 20.0))]
    settings = {"model": {"lr": 1.0}, "trainer": {"gradient_clip_val": None}}
    metrics = {"train/perplexity": 20.0, "clipped_steps": 0, "num_steps_done": 1, "largest_grad_norm": 0.2}
    leave_job(tmp_path / "s", settings, metrics=metrics, tables={"metrics": epochs})
    assert clipping.findings(load_jobs(tmp_path / "s")).rows[0][3] == "0 of 1"

"""Exercise 9: up to where runs learn, and what its report makes of the jobs' folders."""

from pathlib import Path

import pytest

from tests.support.jobs import leave_job
from timemachine.config import Data, Model, to_dict
from timemachine.exercises import clipping
from timemachine.exercises.jobs import load_jobs
from timemachine.exercises.report import write_report

RATES = (1.0, 4.0, 8.0, 24.0)


def clipping_job(sweep: Path, lr: float, theta: float | None, seed: int, val: float) -> None:
    """A folder as train.py leaves it: with θ = 0.1 each step was clipped."""
    norm, last = lr / 4, {"train/perplexity": val - 1, "val/perplexity": val, "test/perplexity": val + 2}
    metrics = last | {"largest_grad_norm": norm, "clipped_steps": 10 * (theta == 0.1), "num_steps_done": 10}
    epochs = [{"epoch": epoch, "grad_norm": norm} | last for epoch in (1, 2)]
    settings = {"seed": seed, "model": to_dict(Model(lr=lr)), "data": to_dict(Data())}
    settings |= {"trainer": {"gradient_clip_val": theta, "max_epochs": 100}}
    status = "diverged" if val > 28 else "completed"
    leave_job(sweep, settings, status=status, metrics=metrics | {"chars_per_second": lr}, tables={"metrics": epochs})


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Without clipping, and with a radius of 1, runs learn up to a rate of 4, with 0.1 up to 8, one of two at 24."""
    folder = tmp_path / "clipping"
    for seed in (0, 1):
        for theta in (None, 1.0):
            for lr, val in zip(RATES, (7.3, 7.1 + 0.2 * seed, 1e9, 1e9), strict=True):
                clipping_job(folder, lr, theta, seed, val)
        for lr, val in zip(RATES, (8.3, 7.5, 7.0 + 0.1 * seed, 1e9 if seed else 9.0), strict=True):
            clipping_job(folder, lr, 0.1, seed, val)
    return folder


def test_the_report_says_up_to_which_rate_and_product_with_the_radius_every_run_learns(sweep: Path) -> None:
    found = clipping.findings(load_jobs(sweep))
    assert found.columns[:5] == ["", "every run learns up to η", "not every run at η", "best η", "validation"]
    assert [row[:5] for row in found.rows] == [
        ["no clipping", "4", "8", "4", "7.20 ± 1.27"],
        ["θ = 1", "4 (ηθ = 4)", "8 (ηθ = 8)", "4", "7.20 ± 1.27"],
        ["θ = 0.1", "8 (ηθ = 0.8)", "24 (ηθ = 2.4)", "8", "7.05 ± 0.64"],
    ]
    assert [row[7] for row in found.rows] == ["", "+0.00 ± 0.00", "-0.15 ± 0.64"]
    assert found.answer.startswith("At the book's settings nothing happens: ")
    for passage in (
        "(largest 0.25), and 2 of 2 runs are the same bit for bit",
        "every run learns up to a rate of 4 and none from 8 on",
        "a radius of 0.1 lets all learn up to 8",
        "-0.15 ± 0.64 (cannot be told apart)",
    ):
        assert passage in found.answer
    assert "| θ = 0.1 | 24 | 1 of 2 | 9.00 |" in found.notes[1]


def test_the_report_is_of_the_runs_that_there_were(tmp_path: Path) -> None:
    """At one rate, on another text than the book's, with a gradient that a radius of 1 clips."""
    for theta in (None, 1.0):
        metrics = {"train/perplexity": 7.0, "val/perplexity": 8.0, "test/perplexity": 9.0, "largest_grad_norm": 1.5}
        settings = {"seed": 0, "model": {"lr": 1.0}, "data": {"corpus": "sample"}}
        settings |= {"trainer": {"gradient_clip_val": theta}}
        metrics |= {"clipped_steps": 1, "num_steps_done": 10}
        leave_job(tmp_path / "s", settings, metrics=metrics, tables={"metrics": [{"epoch": 1, "grad_norm": 1.5}]})
    found = clipping.findings(load_jobs(tmp_path / "s"))
    assert found.answer.startswith("At a learning rate of 1 a radius of 1 acts: ") and "reaches 1.5." in found.answer
    assert [row[:3] for row in found.rows] == [["no clipping", "1", "–"], ["θ = 1", "1 (ηθ = 1)", "–"]]
    assert found.columns[6] == "rest of the text" and "novel" not in f"{found}"
    assert len(found.figures["norms"][0].axes) == 1  # none of a rate at which runs fail


def test_runs_that_differ_in_a_digit_are_not_called_the_same(sweep: Path) -> None:
    summary = sweep / "0/summary.json"
    summary.write_text(summary.read_text().replace("7.3", "7.3000001"))
    assert "1 of 2 runs are the same bit for bit" in clipping.findings(load_jobs(sweep)).answer


def test_one_run_is_not_compared(sweep: Path) -> None:
    answer = clipping.findings([job for job in load_jobs(sweep) if job.settings["seed"] == 0]).answer
    assert "(largest 0.25)." in answer and "bit for bit" not in answer


def test_a_half_finished_sweep_has_a_report(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sweep / "1/summary.json").unlink()
    (sweep / "5/summary.json").write_text('{"status": "runn')
    write_report(sweep, "clipping", load_jobs(sweep))
    report = (sweep / "report.md").read_text()
    assert "24 runs (13 completed, 2 failed, 9 diverged)" in report
    assert "`model.lr`: 1.0, 8.0, 24.0, 4.0; `trainer.gradient_clip_val`: None, 1.0, 0.1" in report
    for figure in ("outcome", "norms"):
        assert f"({figure}.png)" in report
        assert (sweep / f"{figure}.png").stat().st_size > 1000
    assert "report.md" in capsys.readouterr().out

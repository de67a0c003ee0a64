"""Exercise 9: up to where runs learn, and what its report makes of the jobs' folders."""

import re
from pathlib import Path

import pytest

from tests.support.jobs import leave_job
from timemachine.config import Data, Model, to_dict
from timemachine.exercises import clipping
from timemachine.exercises.sweep_report import write_report
from timemachine.run.jobs import load_jobs

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


def test_rates_at_which_every_run_learns(sweep: Path) -> None:
    found = clipping.findings(load_jobs(sweep))
    assert found.columns[:5] == ["", "every run learns up to η", "not every run at η", "best η", "validation"]
    assert [row[:5] for row in found.rows] == [
        ["no clipping", "4", "8", "4", "7.20 ± 1.27"],
        ["θ = 1", "4 (ηθ = 4)", "8 (ηθ = 8)", "4", "7.20 ± 1.27"],
        ["θ = 0.1", "8 (ηθ = 0.8)", "24 (ηθ = 2.4)", "8", "7.05 ± 0.64"],
    ]
    assert [row[7] for row in found.rows] == ["", "+0.00 ± 0.00", "-0.15 ± 0.64"]
    assert re.findall(r"\d[\d.]*", found.answer)[1:5] == ["0.25", "4", "8", "0.1"]
    assert "| θ = 0.1 | 24 | 1 of 2 | 9.00 |" in found.notes[1]


def test_one_rate_has_a_table(sweep: Path) -> None:
    found = clipping.findings([job for job in load_jobs(sweep) if job.settings["model.lr"] == 1])
    assert found.answer == "No answer yet, runs are missing: no rate at which none does."
    assert [row[:3] for row in found.rows][:2] == [["no clipping", "1", "–"], ["θ = 1", "1 (ηθ = 1)", "–"]]
    assert len(found.figures["norms"][0].axes) == 1  # none of a rate at which runs fail


def test_report_of_half_a_sweep(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sweep / "1/summary.json").unlink()
    (sweep / "5/summary.json").write_text('{"status": "runn')
    write_report(sweep, "clipping", load_jobs(sweep))
    report = (sweep / "report.md").read_text()
    assert "No answer yet, runs are missing: 2 of 24 jobs did not complete (1, 5)." in report
    assert "24 runs (13 completed, 2 failed, 9 diverged)" in report
    assert "`model.lr`: 1.0, 8.0, 24.0, 4.0; `trainer.gradient_clip_val`: None, 1.0, 0.1" in report
    for figure in ("outcome", "norms"):
        assert f"({figure}.png)" in report
        assert (sweep / f"{figure}.png").stat().st_size > 1000
    assert "report.md" in capsys.readouterr().out

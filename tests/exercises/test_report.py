"""Reports: that of exercise 9, half-finished ones, and the generic one."""

import math
import re
from pathlib import Path

import pytest

from tests.support.jobs import leave_job
from tests.support.programs import run_program
from timemachine.config import REPOSITORY
from timemachine.exercises import clipping, generic
from timemachine.exercises.jobs import load_jobs
from timemachine.exercises.report import write_report

EXERCISES = sorted(file.stem for file in (REPOSITORY / "conf/exercise").glob("*.yaml") if file.stem != "none")


def clipping_job(
    sweep: Path, lr: float, theta: float | None, seed: int, train: list[float], norms: list[float]
) -> None:
    """A folder as train.py leaves it: an epoch's perplexities and a step's norms."""
    clipped = [min(norm, theta or math.inf) for norm in norms]
    metrics = {"train/perplexity": train[-1], "val/perplexity": train[-1] + 1, "largest_grad_norm": max(norms)}
    metrics |= {"clipped_steps": sum(norm > (theta or math.inf) for norm in norms), "num_steps_done": len(norms)}
    epochs = [
        {"epoch": number, "train/perplexity": value, "val/perplexity": value + 1, "chars_per_second": seed + lr}
        for number, value in enumerate(train, 1)
    ]
    steps = [
        {"epoch": 1, "step": number + 1, "loss": 3.0 - number / 10, "grad_norm": norm, "grad_norm_clipped": after}
        for number, (norm, after) in enumerate(zip(norms, clipped, strict=True))
    ]
    settings = {"seed": seed, "model": {"lr": lr}, "trainer": {"gradient_clip_val": theta}}
    status = "diverged" if train[-1] > 28 else "completed"
    leave_job(sweep, settings, status=status, metrics=metrics, tables={"metrics": epochs, "steps": steps})


@pytest.fixture
def clipping_sweep(tmp_path: Path) -> Path:
    sweep = tmp_path / "clipping"
    for seed in (0, 1):
        for theta in (None, 1.0):
            clipping_job(sweep, 1.0, theta, seed, [20.0, 7.0 + seed], [0.2, 0.5])
        clipping_job(sweep, 8.0, None, seed, [15.0, 1e9], [0.2, 4.0])
        clipping_job(sweep, 8.0, 1.0, seed, [15.0, 9.0 if seed else 30.0], [0.2, 4.0])
    return sweep


def test_the_report_has_a_row_for_each_rate_and_radius_and_their_numbers_in_its_answer(clipping_sweep: Path) -> None:
    found = clipping.findings(load_jobs(clipping_sweep))
    cells = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    assert [cell["learning rate η"] for cell in cells] == ["1", "1", "8", "8"]
    assert [cell["radius θ"] for cell in cells] == ["none", "1", "none", "1"]
    assert [cell["diverged"] for cell in cells] == ["0 of 2", "0 of 2", "2 of 2", "1 of 2"]
    assert [cell["at epoch"] for cell in cells] == ["", "", "2", "2"]
    assert [cell["train"] for cell in cells] == ["7.50 ± 0.71", "7.50 ± 0.71", "–", "9.000"]
    assert [cell["steps clipped"] for cell in cells] == ["0%", "0%", "0%", "50%"]
    text = " ".join([found.answer, *found.longer])
    for number in ("largest 0.50", "2 of 2 runs are the same", "2 of 2 at rate 8", "radius 1 diverge 1 of 2 at rate 8"):
        assert number in text


def test_runs_that_differ_in_a_digit_are_not_called_the_same(clipping_sweep: Path) -> None:
    metrics = clipping_sweep / "0/metrics.csv"
    metrics.write_text(metrics.read_text().replace("7.0", "7.0000001"))
    answer = clipping.findings(load_jobs(clipping_sweep)).answer
    assert "1 of 2 runs are the same bit for bit" in answer
    assert "nothing happens" not in answer


def test_a_half_finished_sweep_has_a_report(clipping_sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (clipping_sweep / "1/summary.json").unlink()
    (clipping_sweep / "5/summary.json").write_text('{"status": "runn')
    write_report(clipping_sweep, "clipping")
    report = (clipping_sweep / "report.md").read_text()
    assert "8 runs (3 completed, 2 failed, 3 diverged)" in report
    assert "`model.lr`: 1.0, 8.0; `trainer.gradient_clip_val`: None, 1.0" in report
    for figure in ("outcome", "norms", "bound"):
        assert f"({figure}.png)" in report
        assert (clipping_sweep / f"{figure}.png").stat().st_size > 1000
    assert "report.md" in capsys.readouterr().out


@pytest.mark.parametrize("exercise", EXERCISES)
def test_no_exercise_fails_on_a_sweep_without_a_finished_job(exercise: str, tmp_path: Path) -> None:
    settings = {"seed": 0, "model": {"lr": 1.0, "hiddens": 32, "input": "one_hot"}, "data": {"num_steps": 32}}
    leave_job(tmp_path / "s", settings, status="running")
    write_report(tmp_path / "s", exercise)
    assert "## Answer" in (tmp_path / "s/report.md").read_text()


def test_the_reports_program_ties_any_runs_together_and_refuses_a_folder_without_one(tmp_path: Path) -> None:
    for number in (10, 2):
        leave_job(tmp_path / "index", {"seed": number}, number=number, metrics={"val/perplexity": 7.5})
    done = run_program("-m", "timemachine.report", ".", cwd=tmp_path)
    assert re.search(r"index/2 +completed +2 +7\.5 .*index/10 +completed +10 +7\.5 ", done.stdout, re.DOTALL)
    assert "| index/2, index/10 | 2 of 2 | 7.50 ± 0.00 |" in (tmp_path / "report.md").read_text()
    for typed in ([], [""], ["nowhere"], ["index/2"]):
        done = run_program("-m", "timemachine.report", *typed, cwd=tmp_path)
        assert done.returncode == 1 and re.fullmatch("error: .*; type .*\n", done.stderr)
    assert len([*(tmp_path / "index/2").iterdir()]) == 2


def test_a_sweep_without_a_module_has_a_report_with_a_row_for_what_varied(tmp_path: Path) -> None:
    """Two settings vary, and the seed; one run diverged, one was killed, one left nothing."""
    sweep = tmp_path / "plain"
    epochs = [{"epoch": epoch, "val/perplexity": 20.0 - epoch} for epoch in (1, 2, 3)]
    for hiddens, lr in ((16, 1.0), (32, 1.0), (32, 8.0)):
        for seed in (0, 1):
            settings = {"seed": seed, "model": {"hiddens": hiddens, "lr": lr}, "data": {"corpus": "[b]a|b"}}
            metrics = {"epoch": 3, "val/perplexity": hiddens / 4 + seed, "best_epoch": 2, "val/bits": 3.0}
            status = "diverged" if lr == 8 and seed == 1 else "completed"
            leave_job(sweep, settings, status=status, metrics=metrics, tables={"metrics": epochs})
    leave_job(sweep, settings | {"seed": 2}, status="running")
    (sweep / "7/.hydra").mkdir(parents=True)
    (sweep / "multirun.yaml").write_text("hydra: {runtime: {choices: {exercise: none}}}")
    found = generic.findings(load_jobs(sweep))
    assert found.columns == ["model.hiddens", "model.lr", "jobs", "completed", "val/perplexity", "val/bits"]
    assert found.rows == [
        ["16", "1.0", "0, 1", "2 of 2", "4.50 ± 0.71", "3.00 ± 0.00"],
        ["32", "1.0", "2, 3", "2 of 2", "8.50 ± 0.71", "3.00 ± 0.00"],
        ["32", "8.0", "4, 5, 6", "1 of 3", "8.000", "3.000"],
    ]
    write_report(sweep, "mine")
    report = (sweep / "report.md").read_text()
    assert report.startswith("# Exercise mine\n")
    assert "Varied: `seed`: 0, 1, 2; `model.hiddens`: 16, 32; `model.lr`: 1.0, 8.0." in report
    assert "8 runs (5 completed, 1 diverged, 2 failed) in 0.2 minutes; 1.4 one by one." in report
    assert "(curves.png)" in report and (sweep / "curves.png").stat().st_size > 1000

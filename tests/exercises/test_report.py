"""The generic report, and reports of unfinished sweeps."""

import re
from pathlib import Path

import pytest

from tests.support.jobs import leave_job
from tests.support.programs import run_program
from timemachine.config import REPOSITORY
from timemachine.exercises import generic
from timemachine.exercises.sweep_report import write_report
from timemachine.run.jobs import load_jobs

EXERCISES = sorted(file.stem for file in (REPOSITORY / "conf/exercise").glob("*.yaml") if file.stem != "none")


@pytest.mark.usefixtures("quick_calls")
@pytest.mark.parametrize("exercise", EXERCISES)
def test_report_without_a_finished_job(exercise: str, tmp_path: Path) -> None:
    settings = {"seed": 0, "model": {"lr": 1.0, "hiddens": 32, "input": "one_hot"}, "data": {"num_steps": 32}}
    leave_job(tmp_path / "s", settings, status="running")
    write_report(tmp_path / "s", exercise, load_jobs(tmp_path / "s"))
    assert "incomplete jobs: 0." in (tmp_path / "s/report.md").read_text()


@pytest.mark.parametrize("scale", ["full", "smoke"])
def test_smoke_report_says_so(scale: str, tmp_path: Path) -> None:
    leave_job(tmp_path, {"seed": 0}, scale=scale, metrics={"val/perplexity": 7.5})
    write_report(tmp_path, "none", load_jobs(tmp_path))
    assert ("scale=smoke" in (tmp_path / "report.md").read_text()) == (scale == "smoke")


def test_report_program(tmp_path: Path) -> None:
    for number in (10, 2):
        leave_job(tmp_path / "index", {"seed": number}, number=number, metrics={"val/perplexity": 7.5})
    done = run_program("-m", "timemachine.report", ".", cwd=tmp_path)
    assert re.search(r"index/2 +completed +2 +7\.500 .*index/10 +completed +10 +7\.500 ", done.stdout, re.S)
    assert "| index/2, index/10 | 2 of 2 | 7.50 ± 0.00 |" in (tmp_path / "report.md").read_text()
    for typed in ([], [""], ["nowhere"], ["index/2"]):
        done = run_program("-m", "timemachine.report", *typed, cwd=tmp_path)
        assert done.returncode == 1 and re.fullmatch("error: .*\n", done.stderr)
    assert done.stderr.startswith("error: index/2: ") and done.stderr.count("\n") == 1
    assert len([*(tmp_path / "index/2").iterdir()]) == 2


def test_generic_report(tmp_path: Path) -> None:
    """Two settings and the seed vary. One run diverged, one was killed and one left no files."""
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
    found = generic.findings(load_jobs(sweep))
    assert found.columns == ["model.hiddens", "model.lr", "jobs", "completed", "val/perplexity", "val/bits"]
    assert found.rows == [
        ["16", "1.0", "0, 1", "2 of 2", "4.50 ± 6.35", "3.00 ± 0.00"],
        ["32", "1.0", "2, 3", "2 of 2", "8.50 ± 6.35", "3.00 ± 0.00"],
        ["32", "8.0", "4, 5, 6", "1 of 3", "8.00", "3.00"],
    ]
    write_report(sweep, "mine", load_jobs(sweep))
    report = (sweep / "report.md").read_text()
    assert "Varied: `seed`: 0, 1, 2; `model.hiddens`: 16, 32; `model.lr`: 1.0, 8.0." in report
    assert "8 runs (5 completed, 1 diverged, 2 failed) in 0.2 minutes; 1.4 one after another." in report
    assert "(curves.png)" in report and (sweep / "curves.png").stat().st_size > 1000


def test_repeated_seed_counts_once(tmp_path: Path) -> None:
    for seed, val in ((3, 7.5), (3, 7.5), (4, 8.5)):
        leave_job(tmp_path / "s", {"seed": seed}, metrics={"val/perplexity": val})
    assert generic.findings(load_jobs(tmp_path / "s")).rows == [["0, 1, 2", "3 of 3", "8.00 ± 6.35"]]

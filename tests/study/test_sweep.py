"""Sweeps: failed jobs, repeated commands, jobs of several processes, kills; progress and exit status."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import TINY, Program, assert_succeeded, call_program
from tests.support.runs import summary, tables_and_weights
from timemachine import load_sweep

SWEEP = ("-m", *TINY, "trainer=cpu", "hydra.sweep.dir=sweep", "trainer.max_epochs=2", "trainer.gradient_clip_val=null")
JOBS = "model.lr=1,1e30,-1,2"  # the second diverges, the third fails


def files(folder: Path) -> dict[Path, Any]:
    """Return the content of the files of jobs, except for those that Hydra writes at each start."""
    return {path: path.read_bytes() for path in folder.glob("*/*") if path.is_file()}


@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.torture)])
def test_failed_and_repeated_jobs(launcher: str, tmp_path: Path, program: Program) -> None:
    started = call_program if launcher == "basic" else program  # workers print to the terminal
    typed = (*SWEEP, f"hydra/launcher={launcher}")
    done = started("train.py", *typed, JOBS)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"^error: .* \(job 2\)", done.stderr, re.MULTILINE)
    rows = load_sweep(tmp_path / "sweep")
    assert [row["status"] for row in rows] == ["completed", "diverged", "failed", "completed"]
    assert rows[2]["message"].startswith("model.lr=-1: ")
    lines = re.findall(r"^job +(\d)  \d/4 +(\w+) +model.lr=(\S+) +", done.stdout, re.MULTILINE)
    expected = [("0", "completed", "1"), ("1", "diverged", "1e+30"), ("2", "failed", "-1"), ("3", "completed", "2")]
    assert sorted(lines) == expected and "HYDRA" not in done.stdout
    assert (tmp_path / "sweep/summary.csv").exists() and (tmp_path / "sweep/report.md").exists()

    # The last job as if it had been killed after its second epoch: it is resumed, and those that have ended are not.
    last, before = tmp_path / "sweep/3", files(tmp_path / "sweep")
    left = tables_and_weights(last)
    (last / "summary.json").write_text(json.dumps(summary(last) | {"status": "running"}))
    assert started("train.py", *typed, JOBS).returncode == 1
    assert tables_and_weights(last) == left and summary(last)["status"] == "completed"
    after = files(tmp_path / "sweep")
    assert {path.parent.name for path in before if before[path] != after[path]} <= {"2", "3"}

    done = started("train.py", *typed, "model.lr=3,4,5,6")  # other jobs
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"^error: model.lr=\d: .*sweep/\d has model.lr=", done.stderr, re.MULTILINE)
    assert files(tmp_path / "sweep") == after


def test_a_mistake_in_code_is_a_traceback(tmp_path: Path) -> None:
    """The other jobs run."""
    callback = ("+callbacks.mine._target_=tests.support.runs.InterruptAt", "+callbacks.mine.step=1,-1")
    done = call_program("train.py", *SWEEP, *callback)
    assert done.returncode == 1 and "Traceback" in done.stderr and "Interruption" in done.stderr
    assert [row["status"] for row in load_sweep(tmp_path / "sweep")] == ["failed", "completed"]


def test_an_interpolation_that_fails(tmp_path: Path) -> None:
    """The job is a row of the table, and the command fails."""
    done = call_program("train.py", *SWEEP, "model.lr=${nothing},1")
    assert done.returncode == 1 and re.search(r"^error: .* \(job 0\)", done.stderr, re.MULTILINE)
    rows = load_sweep(tmp_path / "sweep")
    assert [row["status"] for row in rows] == ["failed", "completed"] and "nothing" in rows[0]["message"]


def test_no_best_job_if_all_diverged(tmp_path: Path) -> None:
    done = call_program("train.py", *SWEEP, "model.lr=1e30,2e30")
    assert [row["status"] for row in load_sweep(tmp_path / "sweep")] == ["diverged"] * 2
    assert not re.search("^best ", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_jobs_of_several_processes(program: Program, tmp_path: Path) -> None:
    """Each job has its own settings, also from config files that the command line adds."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files/mine.yaml").write_text("defaults: [train, _self_]\nseed: 7\n")
    own = ("--config-dir=files", "--config-name=mine")
    typed = (*own, *SWEEP[:-1], "trainer=cpu", "trainer.devices=2,1", "model.lr=1,-1")
    done = program("train.py", *typed)
    rows = load_sweep(tmp_path / "sweep")
    assert [row["status"] for row in rows] == ["completed", "failed", "completed", "failed"], done.stderr
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert {summary(tmp_path / "sweep" / job)["settings"]["seed"] for job in "0123"} == {7}
    assert rows[0]["val/perplexity"] == pytest.approx(rows[2]["val/perplexity"], rel=1e-5)


@pytest.mark.slow
def test_submitit_local(program: Program, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    typed = ("-m", *TINY, "trainer=cpu", "trainer.max_epochs=1", "seed=0,1")
    assert_succeeded(call_program("train.py", *typed, "hydra.sweep.dir=here"))
    assert_succeeded(program("train.py", *typed, "hydra.sweep.dir=local", "hydra/launcher=submitit_local"))
    for job in "01":
        assert tables_and_weights(tmp_path / "local" / job) == tables_and_weights(tmp_path / "here" / job)

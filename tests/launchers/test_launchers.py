"""Sweeps on several cores, completed and killed; jobs of `submitit_local`."""

import os
import signal
from pathlib import Path

import pytest

from tests.support.processes import running
from tests.support.programs import Program, assert_succeeded
from tests.support.runs import epochs, summary, what_is_left
from timemachine.run.jobs import read_job

SHORT = ["data=sample", "data.num_train=515", "data.num_val=100", "data.batch_size=256", "data.num_steps=8"]
SHORT += ["model.hiddens=8", "model.lr=2", "logger=csv", "trainer=cpu"]
SWEEP = ["-m", *SHORT, "hydra.sweep.dir=sweep", "seed=0,1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


@pytest.mark.slow
def test_killed_worker(program: Program, tmp_path: Path) -> None:
    """The sweep fails, and the repeated command completes its jobs."""
    command, jobs = [*SWEEP, "trainer.max_epochs=200"], [tmp_path / "sweep" / job for job in "012"]
    with running(tmp_path, *command) as sweep:
        sweep.wait_until(lambda: all(epochs(job) >= 2 for job in jobs[:2]))
        assert read_job(jobs[0]).status == "running"
        worker = next(number for number, line in sweep.processes().items() if "LokyProcess-1" in line)
        os.kill(worker, signal.SIGKILL)
        code, *_ = sweep.ended()
        sweep.wait_for_its_processes()
    assert code == 1
    assert all(read_job(job).status == "failed" and 0 < epochs(job) < 200 for job in jobs[:2])
    assert_succeeded(program("train.py", *command))
    assert {(summary(job)["status"], epochs(job)) for job in jobs} == {("completed", 200)}


@pytest.mark.slow
def test_submitit_local(program: Program, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    for folder, launcher in (("here", "basic"), ("local", "submitit_local")):
        sweep = ["-m", *SHORT, f"hydra/launcher={launcher}", f"hydra.sweep.dir={folder}", "seed=0,1"]
        assert_succeeded(program("train.py", *sweep, "trainer.max_epochs=1"))
    for job in "01":
        assert what_is_left(tmp_path / "local" / job) == what_is_left(tmp_path / "here" / job)

"""Sweeps on several cores, completed and killed; jobs of `submitit_local`."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.support.processes import running
from tests.support.programs import Program, assert_succeeded
from tests.support.runs import epochs, summary, what_is_left
from timemachine.run.jobs import read_job

SHORT = ["data=sample", "data.num_train=515", "data.num_val=100", "data.batch_size=256", "data.num_steps=8"]
SHORT += ["model.hiddens=8", "model.lr=2", "logger=csv", "trainer=cpu"]
SWEEP = ["-m", *SHORT, "hydra.sweep.dir=sweep", "seed=0,1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
KILLS = int(os.environ.get("KILLS", 3))  # `make torture`: 30


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


def kill_after(folder: Path, seconds: float, *arguments: str) -> None:
    """Kill a sweep and its processes, `seconds` after one of its jobs has written metrics.csv."""

    def written() -> dict[Path, int]:
        return {table: table.stat().st_mtime_ns for table in folder.glob("sweep/*/metrics.csv")}

    before = written()
    with running(folder, *arguments) as sweep:
        sweep.wait_until(lambda: written() != before)
        time.sleep(seconds)
        assert sweep.process.poll() is None  # the sweep must still be running
        os.killpg(sweep.process.pid, signal.SIGKILL)
        sweep.wait_for_its_processes()


@pytest.mark.torture
def test_sweep_killed_again_and_again(program: Program, tmp_path: Path) -> None:
    """A kill may come after a job has ended or before one has started."""
    moments, sweep = random.Random(0), [*SWEEP, f"trainer.max_epochs={30 * KILLS}"]
    for _ in range(KILLS):
        kill_after(tmp_path, moments.uniform(0, 0.4), *sweep)
    assert_succeeded(program("train.py", *sweep))
    (tmp_path / "sweep").rename(tmp_path / "killed")
    assert_succeeded(program("train.py", *sweep))
    for job in "012":
        assert what_is_left(tmp_path / "killed" / job) == what_is_left(tmp_path / "sweep" / job)


@pytest.mark.slow
def test_submitit_local(program: Program, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    for folder, launcher in (("here", "basic"), ("local", "submitit_local")):
        sweep = ["-m", *SHORT, f"hydra/launcher={launcher}", f"hydra.sweep.dir={folder}", "seed=0,1"]
        assert_succeeded(program("train.py", *sweep, "trainer.max_epochs=1"))
    for job in "01":
        assert what_is_left(tmp_path / "local" / job) == what_is_left(tmp_path / "here" / job)

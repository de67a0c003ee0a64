"""Sweeps on several cores, completed and interrupted; jobs of `submitit_local`; missing plugins."""

import os
import random
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.processes import running
from tests.support.programs import Program, assert_succeeded
from tests.support.runs import epochs, summary, what_is_left
from timemachine.run.jobs import read_job

SHORT = ["data=sample", "data.num_train=515", "data.num_val=100", "data.batch_size=256", "data.num_steps=8"]
SHORT += ["model.hiddens=8", "model.lr=2", "logger=csv"]
SWEEP = ["-m", *SHORT, "hydra.sweep.dir=sweep", "seed=0,1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
KILLS = int(os.environ.get("KILLS", 3))  # `make torture`: 30


def both_began(folder: Path) -> bool:
    return all(epochs(folder / "sweep" / job) >= 2 for job in "01")


@pytest.mark.slow
def test_killed_worker(program: Program, tmp_path: Path) -> None:
    with running(tmp_path, *SWEEP, "trainer.max_epochs=400") as sweep:
        sweep.wait_until(lambda: both_began(tmp_path))
        assert read_job(tmp_path / "sweep/0").status == "running"
        worker = next(number for number, line in sweep.processes().items() if "LokyProcess-1" in line)
        os.kill(worker, signal.SIGKILL)
        code, output, errors = sweep.ended()
        sweep.wait_for_its_processes()
    (line,) = errors.splitlines()
    assert code == 1 and line.startswith("error: ") and "killed" in line
    assert "resume=sweep" in output.splitlines()[-1]
    assert all("killed" in str(read_job(tmp_path / "sweep" / job).message) for job in "01")
    began = [epochs(tmp_path / "sweep" / job) for job in "01"]
    assert all(0 < number < 400 for number in began)
    assert_succeeded(program("train.py", *SWEEP, "trainer.max_epochs=400", "resume=sweep"))
    assert {summary(tmp_path / "sweep" / job)["status"] for job in "012"} == {"completed"}


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
    for number in range(KILLS):
        kill_after(tmp_path, moments.uniform(0, 0.4), *sweep, *(["resume=sweep"] if number else []))
    assert_succeeded(program("train.py", *sweep, "resume=sweep"))
    (tmp_path / "sweep").rename(tmp_path / "killed")
    assert program("train.py", *sweep).returncode == 0
    for job in "012":
        assert what_is_left(tmp_path / "killed" / job) == what_is_left(tmp_path / "sweep" / job)


# Other launchers


@pytest.mark.parametrize(
    ("library", "typed", "named"),
    [
        ("hydra_submitit_launcher", "hydra/launcher=submitit_slurm", "hydra/launcher=submitit_slurm"),
        ("hydra_optuna_sweeper", "hydra/sweeper=search", "hydra/sweeper=optuna"),
    ],
)
def test_missing_plugins(library: str, typed: str, named: str, program: Program) -> None:
    if find_spec(f"hydra_plugins.{library}"):
        pytest.skip("it is installed")
    done = program("train.py", "-m", typed)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith(f"error: {named}: ")


@pytest.mark.slow
def test_submitit_local(program: Program, tmp_path: Path) -> None:
    """The processes import a class from a file next to train.py."""
    pytest.importorskip("submitit")
    for folder, launcher in (("here", "basic"), ("local", "submitit_local")):
        sweep = ["-m", *SHORT, f"hydra/launcher={launcher}", f"hydra.sweep.dir={folder}", "seed=0,1"]
        callback = ["callbacks.mine._target_=tests.support.runs.InterruptAt", "callbacks.mine.step=-1"]
        assert_succeeded(program("train.py", *sweep, *callback, "trainer.max_epochs=1"))
    for job in "01":
        assert what_is_left(tmp_path / "local" / job) == what_is_left(tmp_path / "here" / job)

"""Signals and kills: a program ends with a status, leaves no process, and its run resumes bit for bit."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import Running, running
from tests.support.programs import DDP, TINY, Done, Program, assert_succeeded, call_program
from tests.support.runs import epochs, summary, tables_and_weights
from timemachine.config import REPOSITORY
from timemachine.run.run import is_running
from timemachine.study.jobs import load_job

KILLS = int(os.environ.get("KILLS", 2))  # make torture: 100
SHORT = [*TINY, "model.lr=2"]
ALONE = [*SHORT, "hydra.run.dir='the run'"]  # with a space, for the commands of other processes
REGULARIZED = ["model=regularized", "model.optimizer=adamw", "model.lr=0.01", "model.carry_state=true"]
REGULARIZED += ["model.schedule=cosine", "model.input_dropout=0.1", "model.output_dropout=0.1", "data.batch_size=16"]
SWEEP = ["-m", *SHORT, "hydra.sweep.dir=sweep"]
LONG = ["model.lr=0.1"]  # at a rate of 2, thousands of epochs of this short text overfit: the run "diverges"
KILLED = {"": [*ALONE, *LONG]}
if KILLS > 2:
    KILLED["ddp"] = [*ALONE, *LONG, *DDP]
    KILLED["regularized"] = [*ALONE, *REGULARIZED]
    KILLED["joblib"] = [*SWEEP, *LONG, "seed=0,1", "hydra/launcher=joblib"]
    KILLED["child"] = [*SWEEP, *LONG, *DDP]


def results(folder: Path) -> dict[str, Any]:
    return {table.parent.name: tables_and_weights(table.parent) for table in folder.rglob("metrics.csv")}


def two_more_epochs(run: Running, folder: Path) -> None:
    before = epochs(folder)
    run.wait_until(lambda: epochs(folder) >= before + 2)


def interrupt(number: signal.Signals, folder: Path, *arguments: str) -> str:
    """Start or resume a run, send it a signal after two epochs, check its end, and return its output."""
    with running(folder, *arguments, "trainer.max_epochs=100000") as run:
        two_more_epochs(run, folder / "the run")
        run.process.send_signal(number)
        code, output, errors = run.ended()
        run.wait_for_its_processes()
    assert code == 130 and "Traceback" not in errors, errors
    assert summary(folder / "the run")["status"] == "interrupted"
    return output


def assert_same_end(started: Callable[..., Done], folder: Path, *typed: str) -> None:
    """Resume the run, and check that it then equals an uninterrupted one."""
    total = f"trainer.max_epochs={epochs(folder / 'the run') + 2}"
    assert_succeeded(started("train.py", *typed, total))
    (folder / "the run").rename(folder / "interrupted")
    assert_succeeded(started("train.py", *typed, total))
    assert tables_and_weights(folder / "interrupted") == tables_and_weights(folder / "the run")


@pytest.mark.slow
def test_a_run(tmp_path: Path) -> None:
    assert "hydra.run.dir=" in interrupt(signal.SIGINT, tmp_path, *ALONE)
    interrupt(signal.SIGTERM, tmp_path, *ALONE)
    assert_same_end(call_program, tmp_path, *ALONE)


@pytest.mark.slow
@pytest.mark.parametrize("typed", [ALONE, SWEEP])
def test_reader_of_stdout_ends(typed: list[str], tmp_path: Path) -> None:
    """As with `| head -1`."""
    command = [sys.executable, str(REPOSITORY / "train.py"), *typed]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout and process.stderr and process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
    assert_succeeded(call_program("train.py", *typed))
    assert {summary(path.parent)["status"] for path in tmp_path.rglob("summary.json")} == {"completed"}


@pytest.mark.slow
def test_first_process_is_killed_before_training(tmp_path: Path) -> None:
    """The others end as well."""
    with running(tmp_path, *ALONE, *DDP) as run:
        run.wait_until(lambda: any("ddp_process_1" in line for line in run.processes().values()))  # Lightning's name
        run.process.kill()
        run.ended()
        run.wait_for_its_processes()


@pytest.mark.torture
def test_several_processes(tmp_path: Path, program: Program) -> None:
    """SIGTERM reaches the first process alone. In `test_a_sweep` Ctrl-C reaches all."""
    interrupt(signal.SIGTERM, tmp_path, *ALONE, *DDP)
    assert_same_end(program, tmp_path, *ALONE, *DDP)


@pytest.mark.slow
@pytest.mark.repeated
@pytest.mark.parametrize("typed", KILLED.values(), ids=KILLED)
def test_killed_again_and_again(typed: list[str], program: Program, tmp_path: Path) -> None:
    """With a hundred checkpoints per second, kills come within milliseconds of one.

    The epochs outlast the kills. They are no more, since each checkpoint contains the tables so far.
    """
    moments, typed = random.Random(0), [*typed, f"trainer.max_epochs={100 + 20 * KILLS}"]

    def last_write() -> int:
        return max((table.stat().st_mtime_ns for table in tmp_path.rglob("metrics.csv")), default=0)

    for _ in range(KILLS):
        before = last_write()
        with running(tmp_path, *typed) as run:
            run.wait_until(lambda: last_write() != before and any(tmp_path.rglob("last.ckpt")))  # noqa: B023  called at once
            time.sleep(moments.uniform(0, 0.1))
            assert run.process.poll() is None  # the program must still be active
            os.killpg(run.process.pid, signal.SIGKILL)
            run.ended()
    started = program if {"-m", "trainer=ddp"} & {*typed} else call_program
    assert_succeeded(started("train.py", *typed))
    killed = results(tmp_path)
    for folder in tmp_path.iterdir():
        shutil.rmtree(folder)
    assert_succeeded(started("train.py", *typed))
    assert killed and killed == results(tmp_path)


JOBLIB = ["seed=0,1", "hydra/launcher=joblib"]


@pytest.mark.parametrize(
    ("sweep", "number", "expected"),
    [
        pytest.param(["seed=0,1"], signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(JOBLIB, signal.SIGTERM, 143, marks=pytest.mark.torture),
        pytest.param([*JOBLIB, *DDP], signal.SIGINT, 130, marks=pytest.mark.torture),
    ],
)
def test_a_sweep(sweep: list[str], number: signal.Signals, expected: int, tmp_path: Path, program: Program) -> None:
    command = [*SWEEP, "trainer.max_epochs=150", *sweep]
    with running(tmp_path, *command) as run:
        two_more_epochs(run, tmp_path / "sweep" / "0")
        # A terminal sends Ctrl-C to all processes.
        (os.killpg if number == signal.SIGINT else os.kill)(run.process.pid, number)
        code, output, errors = run.ended()
        run.wait_for_its_processes()
    assert code == expected and "Traceback" not in errors, errors
    assert output.count("hydra.sweep.dir=sweep") == 2  # how to resume, at the beginning and at the end
    assert not is_running(tmp_path / "sweep/0")
    assert not (tmp_path / "sweep/1/metrics.csv").exists() or "hydra/launcher=joblib" in sweep
    started = call_program if sweep == ["seed=0,1"] else program  # joblib's workers would stay
    assert_succeeded(started("train.py", *command))
    assert {epochs(table.parent) for table in tmp_path.glob("sweep/*/metrics.csv")} == {150}


@pytest.mark.torture
def test_killed_worker(program: Program, tmp_path: Path) -> None:
    """The sweep fails, and the repeated command completes its jobs."""
    jobs = [tmp_path / "sweep" / job for job in "012"]
    command = [*SWEEP, "seed=0,1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "trainer.max_epochs=200"]
    with running(tmp_path, *command) as sweep:
        sweep.wait_until(lambda: all(epochs(job) >= 2 for job in jobs[:2]))
        assert load_job(jobs[0]).summary["status"] == "running"
        worker = next(number for number, line in sweep.processes().items() if "LokyProcess-1" in line)
        os.kill(worker, signal.SIGKILL)
        code, *_ = sweep.ended()
        sweep.wait_for_its_processes()
    assert code == 1
    assert all(load_job(job).summary["status"] == "failed" and 0 < epochs(job) < 200 for job in jobs[:2])
    assert_succeeded(program("train.py", *command))
    assert {(summary(job)["status"], epochs(job)) for job in jobs} == {("completed", 200)}

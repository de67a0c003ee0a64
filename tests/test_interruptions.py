"""Signals: a program exits with one line, and its run resumes bit for bit. For a full disk, see run/."""

import os
import signal
import time
from pathlib import Path

import pytest
from lightning.pytorch import Callback

from tests.support.processes import Running, running
from tests.support.programs import Program, assert_said, assert_succeeded
from tests.support.runs import epochs, what_is_left
from timemachine.run.processes import is_first_process
from timemachine.run.record import EPOCH_WEIGHTS, is_running, read_summary

SHORT = ["data=sample", "data.num_train=515", "data.num_val=100", "data.batch_size=256", "data.num_steps=8"]
SHORT += ["model.hiddens=8", "model.lr=2", "logger=csv"]
ALONE = [*SHORT, "hydra.run.dir=run"]
SWEEP = ["-m", *SHORT, "hydra.sweep.dir=sweep"]
ENDLESS = "trainer.max_epochs=100000"


def two_more_epochs(run: Running, folder: Path) -> None:
    before = epochs(folder)
    run.wait_until(lambda: epochs(folder) >= before + 2)


def assert_interrupted(code: int, output: str, errors: str, folder: str) -> None:
    assert code == 130
    assert_said(errors, "interrupted")
    (how_to_resume,) = (line for line in output.splitlines() if f"resume={folder}" in line)
    assert how_to_resume == output.splitlines()[-1]


def interrupt(number: signal.Signals, folder: Path, *arguments: str) -> None:
    """Start or resume a run, send it a signal after two epochs, and check its exit and status."""
    with running(folder, *arguments, ENDLESS) as run:
        two_more_epochs(run, folder / "run")
        run.process.send_signal(number)
        ended = run.ended()
        run.wait_for_its_processes()
    assert_interrupted(*ended, "run")
    assert read_summary(folder / "run")["status"] == "interrupted"


def test_a_run(tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run resumes bit for bit after each signal."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/requeued\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{scontrol.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    started = ALONE
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        interrupt(number, tmp_path, *started)
        started = ["resume=run"]
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"  # only after SIGUSR1
    total = f"trainer.max_epochs={epochs(tmp_path / 'run') + 2}"
    assert_succeeded(program("train.py", "resume=run", total))
    (tmp_path / "run").rename(tmp_path / "interrupted")
    assert_succeeded(program("train.py", *ALONE, total))
    assert what_is_left(tmp_path / "interrupted") == what_is_left(tmp_path / "run")
    assert (tmp_path / "interrupted" / EPOCH_WEIGHTS).read_bytes() == (tmp_path / "run" / EPOCH_WEIGHTS).read_bytes()


@pytest.mark.slow
def test_several_processes(tmp_path: Path) -> None:
    """The signal reaches the first process alone; in `test_a_sweep` Ctrl-C reaches all."""
    interrupt(signal.SIGTERM, tmp_path, *ALONE, "trainer=ddp_cpu")


@pytest.mark.parametrize(
    "sweep",
    [
        pytest.param(["seed=0,1"], id="one after another"),
        pytest.param(["seed=0,1", "hydra/launcher=joblib"], id="side by side", marks=pytest.mark.slow),
        pytest.param(["seed=0", "trainer=ddp_cpu"], id="of several processes", marks=pytest.mark.slow),
    ],
)
def test_a_sweep(sweep: list[str], tmp_path: Path, program: Program) -> None:
    command = [*SWEEP, "trainer.max_epochs=150", *sweep]
    with running(tmp_path, *command) as run:
        two_more_epochs(run, tmp_path / "sweep" / "0")
        os.killpg(run.process.pid, signal.SIGINT)  # a terminal sends Ctrl-C to all processes
        ended = run.ended()
        run.wait_for_its_processes()
    assert_interrupted(*ended, "sweep")
    if "hydra/launcher=joblib" in sweep:  # joblib may have killed the job before it recorded its status
        assert not is_running(tmp_path / "sweep" / "0")
    else:
        assert read_summary(tmp_path / "sweep" / "0")["status"] == "interrupted"
    assert_succeeded(program("train.py", *command, "resume=sweep"))
    assert {epochs(table.parent) for table in tmp_path.glob("sweep/*/metrics.csv")} == {150}


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["trainer=ddp_cpu", "hydra/launcher=joblib"])
def test_a_killed_sweep_leaves_no_process(processes: str, tmp_path: Path) -> None:
    with running(tmp_path, *SWEEP, "seed=0,1", ENDLESS, processes) as run:
        two_more_epochs(run, tmp_path / "sweep" / "0")
        run.process.send_signal(signal.SIGKILL)
        run.wait_for_its_processes()


class OutlivesTheFirst(Callback):
    """In the second process: say that it has begun, and connect to the first only after that has ended."""

    def __init__(self, begun: str) -> None:
        if not is_first_process():
            first = os.getppid()
            Path(begun).touch()
            while os.getppid() == first:
                time.sleep(0.01)


@pytest.mark.slow
def test_a_process_that_never_connects(tmp_path: Path) -> None:
    """If the first process is killed, the second does not wait for it, which PyTorch would for half an hour."""
    own = ["callbacks.own._target_=tests.test_interruptions.OutlivesTheFirst", "callbacks.own.begun=begun"]
    with running(tmp_path, *ALONE, "trainer=ddp_cpu", *own) as run:
        run.wait_until((tmp_path / "begun").exists)
        run.process.send_signal(signal.SIGKILL)
        run.wait_for_its_processes()

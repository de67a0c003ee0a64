"""Signals, killed processes and a full disk: what a user sees, and that nothing written before is lost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.support.processes import Running, running
from tests.support.programs import DEADLINE, assert_said
from tests.support.runs import epochs, what_is_left
from timemachine.runs.summaries import read_summary

SHORT = ["data=sample", "data.num_train=515", "data.num_val=100", "data.batch_size=256", "data.num_steps=8"]
SHORT += ["model.hiddens=8", "model.lr=2", "logger=csv"]
ALONE = [*SHORT, "hydra.run.dir=run"]
ENDLESS = "trainer.max_epochs=100000"


def interrupted(tmp_path: Path, number: signal.Signals, status: int, says: str, *more: str) -> None:
    with running(tmp_path, *ALONE, ENDLESS, *more) as run:
        run.wait_until(lambda: epochs(tmp_path / "run") >= 2)
        run.process.send_signal(number)
        code, output, errors = run.ended()
        assert code == status
        assert_said(errors, says)
        assert output.splitlines()[-1] == "go on with    python train.py resume=run"
        run.wait_for_its_processes()
    summary = read_summary(tmp_path / "run")
    assert (summary["status"], summary["message"]) == ("interrupted", "interrupted")


def test_sigterm(tmp_path: Path) -> None:
    interrupted(tmp_path, signal.SIGTERM, 143, "ended by SIGTERM")


@pytest.mark.slow
def test_sighup(tmp_path: Path) -> None:
    """The terminal is closed."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever started the tests may have ignored it
    try:
        interrupted(tmp_path, signal.SIGHUP, 129, "ended by SIGHUP")
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.slow
def test_sighup_to_a_run_that_was_started_by_nohup(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a process inherits it
    try:
        with running(tmp_path, *ALONE, ENDLESS) as run:
            run.wait_until(lambda: epochs(tmp_path / "run") >= 2)
            run.process.send_signal(signal.SIGHUP)
            then = epochs(tmp_path / "run")
            run.wait_until(lambda: epochs(tmp_path / "run") > then + 2)
            run.process.send_signal(signal.SIGTERM)
            assert run.ended()[0] == 143
    finally:
        signal.signal(signal.SIGHUP, before)


SIGHUPS = """
import os, signal, time
from timemachine.cli.signals import end_in_order, obey_signals
obey_signals()
end_in_order()
try:
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(0.2)
    print("trains on")
finally:
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(0.2)
    print("ends in order")
"""


@pytest.mark.parametrize(
    ("ignored", "says", "status"), [(False, "ends in order\n", 129), (True, "trains on\nends in order\n", 0)]
)
def test_a_terminal_that_is_closed(ignored: bool, says: str, status: int) -> None:
    """The shell and the system both send SIGHUP: the second one is no impatient user."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)  # a process inherits it
    try:
        done = subprocess.run([sys.executable, "-c", SIGHUPS], capture_output=True, text=True, timeout=DEADLINE)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (done.returncode, done.stdout, done.stderr) == (status, says, "")


IMPORTS = """
import time
from timemachine.cli.signals import end_in_order, obey_signals
obey_signals()
end_in_order()
import interrupted
print("imported")
try:
    time.sleep(600)
finally:
    print("ends in order")
"""


INTERRUPTED = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.2)
except BaseException:
    print("caught")
"""


def test_a_signal_waits_for_an_import(tmp_path: Path) -> None:
    """What is imported might catch the exception, or be left half done."""
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS], cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE
    )
    assert (done.returncode, done.stdout, done.stderr) == (143, "imported\nends in order\n", "")


@pytest.mark.slow
def test_sigusr1(tmp_path: Path) -> None:
    interrupted(tmp_path, signal.SIGUSR1, 138, "ended by SIGUSR1")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_the_first_of_several_processes(number: signal.Signals, tmp_path: Path) -> None:
    says = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
    interrupted(tmp_path, number, 128 + number, says, "trainer=ddp_cpu")


def others_import(run: Running) -> bool:
    """Whether each process that Lightning starts has begun to import torch."""
    others = [number for number, line in run.processes().items() if "train_ddp_process" in line]
    return bool(others) and all("libtorch" in Path(f"/proc/{number}/maps").read_text() for number in others)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["when they start", "when they train"])
def test_ctrl_c_in_several_processes(moment: str, tmp_path: Path) -> None:
    """A terminal sends it to all."""
    with running(tmp_path, *ALONE, ENDLESS, "trainer=ddp_cpu") as run:
        if moment == "when they start":
            run.wait_until(lambda: others_import(run))
        else:
            run.wait_until(lambda: epochs(tmp_path / "run") >= 2)
        os.killpg(run.process.pid, signal.SIGINT)
        code, output, errors = run.ended()
        assert code == 130
        assert_said(errors, "interrupted")
        assert output.count("go on with    python train.py resume=run\n") == 1
        run.wait_for_its_processes()
    assert read_summary(tmp_path / "run")["status"] == "interrupted"


@pytest.mark.slow
def test_a_second_ctrl_c_in_several_processes(tmp_path: Path) -> None:
    with running(tmp_path, *ALONE, ENDLESS, "trainer=ddp_cpu") as run:
        run.wait_until(lambda: others_import(run))  # the first process waits for the second
        os.killpg(run.process.pid, signal.SIGINT)
        time.sleep(0.05)
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.process.wait(DEADLINE) in (130, -signal.SIGINT)  # to a shell that is 130, too
        run.wait_for_its_processes()
        assert_said(run.ended()[2], "interrupted")


@pytest.mark.slow
@pytest.mark.parametrize(
    "sweep",
    [
        pytest.param([], id="plain"),
        pytest.param(["hydra/launcher=joblib", "hydra.launcher.n_jobs=1"], id="one process"),
        pytest.param(["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], id="two processes"),
        pytest.param(["trainer=ddp_cpu"], id="jobs of several processes"),
        pytest.param(["trainer=ddp_cpu", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"], id="both"),
    ],
)
def test_ctrl_c_in_a_sweep_says_once_how_to_go_on(sweep: list[str], tmp_path: Path) -> None:
    """A terminal sends it to all processes."""
    with running(tmp_path, "-m", *SHORT, ENDLESS, "seed=0,1", "hydra.sweep.dir=sweep", *sweep) as run:
        run.wait_until(lambda: epochs(tmp_path / "sweep" / "0") >= 2)
        os.killpg(run.process.pid, signal.SIGINT)
        code, output, errors = run.ended()
        assert code == 130
        assert_said(errors, "interrupted")
        assert [line for line in output.splitlines() if "go on" in line] == [
            "go on with    the same command and resume=sweep"
        ]
        run.wait_for_its_processes()
    assert read_summary(tmp_path / "sweep" / "0")["status"] == "interrupted"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_of_several_processes_ends_with_them(number: signal.Signals, tmp_path: Path) -> None:
    sweep = ["-m", *SHORT, ENDLESS, "trainer=ddp_cpu", "seed=0,1", "hydra.sweep.dir=sweep"]
    with running(tmp_path, *sweep) as run:
        run.wait_until(lambda: epochs(tmp_path / "sweep" / "0") >= 2)
        run.process.send_signal(number)
        assert run.process.wait(DEADLINE) % 256 == (256 - 9 if number == signal.SIGKILL else 128 + number)
        run.wait_for_its_processes()
        assert "Traceback" not in run.ended()[2]
    killed = number == signal.SIGKILL
    assert read_summary(tmp_path / "sweep" / "0")["status"] == ("running" if killed else "interrupted")
    assert not (tmp_path / "sweep" / "1").exists()


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    """Of a program whose end waits outside of the interpreter, where none of its handlers runs."""
    slow = """
import ctypes, time
from timemachine.cli.signals import end_in_order, obey_signals
obey_signals()
end_in_order()
try:
    print("begun", flush=True)
    time.sleep(600)
finally:
    print("ending", flush=True)
    mutex, library = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    library.pthread_mutex_lock(mutex), library.pthread_mutex_lock(mutex)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", slow], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in ("begun\n", "ending\n"):
            assert process.stdout.readline() == line
            process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 130


@pytest.mark.slow
def test_two_processes_do_not_train_in_one_folder(program: Program, tmp_path: Path) -> None:
    with running(tmp_path, *ALONE, ENDLESS) as run:
        run.wait_until(lambda: epochs(tmp_path / "run") >= 2)
        done = program("train.py", "resume=run")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.startswith("error: run: another process trains in this folder; end it, or type ")
        before = epochs(tmp_path / "run")
        run.wait_until(lambda: epochs(tmp_path / "run") > before)
        assert read_summary(tmp_path / "run")["status"] == "running"


# A full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.name != "posix" or os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("only root can make a small disk")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("logger", ["csv", pytest.param("wandb", marks=pytest.mark.slow)])
def test_a_full_disk_ends_the_run_in_one_line(logger: str, small_disk: Path, program: Program, tmp_path: Path) -> None:
    typed = [*SHORT, "trainer.max_epochs=5000", "hydra.run.dir=disk/run"]
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"0" * (150_000 if logger == "csv" else 0))
    done = program("train.py", *typed, f"logger={logger}")
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if not line.startswith("W&B ")]
    assert errors == [
        "error: disk/run: No space left on device; make room, or type hydra.run.dir=<a folder to write to>"
    ]
    assert done.stdout.splitlines()[-1] == "go on with    python train.py resume=disk/run"
    then = epochs(small_disk / "run")
    (small_disk / "run").rename(small_disk / "was")
    subprocess.run(["cp", "-r", small_disk / "was", tmp_path / "run"], check=True)  # where there is room
    done = program("train.py", "resume=run", f"trainer.max_epochs={then + 5}", "logger=csv")
    assert done.returncode == 0, done.stderr
    assert epochs(tmp_path / "run") == then + 5
    (tmp_path / "run").rename(tmp_path / "full")
    assert program("train.py", *ALONE, f"trainer.max_epochs={then + 5}").returncode == 0
    assert what_is_left(tmp_path / "full") == what_is_left(tmp_path / "run")


def test_a_disk_that_is_full_at_the_start_is_one_line(small_disk: Path, program: Program) -> None:
    with (small_disk / "ballast").open("wb") as ballast, suppress(OSError):
        while True:
            os.write(ballast.fileno(), b"0" * 1024)
    done = program("train.py", *SHORT, "hydra.run.dir=disk/run")
    instead = "make room, or type hydra.run.dir=<a folder to write to>"
    assert done.returncode == 1
    assert_said(done.stderr, f"error: disk/run: No space left on device; {instead}")


@pytest.mark.slow
def test_a_full_disk_ends_a_sweep_in_a_line_a_job(small_disk: Path, program: Program) -> None:
    (small_disk / "ballast").write_bytes(b"0" * 120_000)
    done = program("train.py", "-m", *SHORT, "trainer.max_epochs=5000", "seed=0,1", "hydra.sweep.dir=disk/sweep")
    assert done.returncode == 1
    first, *others = done.stderr.splitlines()
    assert first == "job 0: failed: No space left on device"
    assert len(others) == 1 and "disk/sweep" in others[0] and "No space left on device" in others[0]


@pytest.mark.slow
def test_a_disk_that_is_full_when_a_run_goes_on_is_one_line(small_disk: Path, program: Program) -> None:
    assert program("train.py", *SHORT, "hydra.run.dir=disk/run", "trainer.max_epochs=2").returncode == 0
    with (small_disk / "ballast").open("wb") as ballast, suppress(OSError):
        while True:
            os.write(ballast.fileno(), b"0" * 1024)
    done = program("train.py", "resume=disk/run", "trainer.max_epochs=4")
    instead = "make room, or type resume=<a copy of the folder, where one can write>"
    assert done.returncode == 1
    assert_said(done.stderr, f"error: disk/run: No space left on device; {instead}")
    assert read_summary(small_disk / "run")["status"] == "completed"

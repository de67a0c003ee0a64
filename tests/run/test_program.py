"""The folders of runs."""

import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tests.support.jobs import leave_job
from timemachine.errors import SettingError
from timemachine.run.program import RESOLVERS, find_run, newest_run

LAST = "checkpoints/last.ckpt"


def test_newest_run() -> None:
    assert newest_run() is None
    with pytest.raises(SettingError, match="run=latest"):
        find_run("latest")
    for number, status in enumerate(("completed", "interrupted", "failed")):
        folder = leave_job(Path("outputs"), {}, status=status)
        (folder / LAST).parent.mkdir()
        (folder / LAST).touch()
        os.utime(folder / "summary.json", (number, number))
    (folder / LAST).unlink()  # the last one failed in its first epoch
    assert newest_run() == find_run("latest") == Path("outputs/1")
    with pytest.raises(SettingError, match="run="):
        find_run("")  # of a shell variable that is not set: not the runs below the working directory


def test_processes_share_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process would name it after its own start."""
    assert RESOLVERS["run_folder"]("new") == "new"
    for name, value in {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}.items():
        monkeypatch.setenv(name, value)
    assert RESOLVERS["run_folder"]("a") == RESOLVERS["run_folder"]("b") != "a"


def test_torchrun_without_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Process ids repeat, so the folder also has the time at which torchrun was started."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    started = RESOLVERS["run_folder"]("a")
    assert started == RESOLVERS["run_folder"]("b") != "a"
    later = SimpleNamespace(create_time=lambda: psutil.Process(os.getppid()).create_time() + 60)
    monkeypatch.setattr("timemachine.run.program.psutil", SimpleNamespace(Process=lambda number: later))
    assert RESOLVERS["run_folder"]("a") != started

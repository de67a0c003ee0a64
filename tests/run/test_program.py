"""The folders of runs."""

import os
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tests.support.jobs import leave_job
from timemachine.errors import SettingError
from timemachine.run.program import RECORDED, RESOLVERS, find_runs, newest_run

LAST = "checkpoints/last.ckpt"


def test_newest_run() -> None:
    assert newest_run() is None
    with pytest.raises(SettingError, match="run=latest"):
        find_runs("latest")
    for number, status in enumerate(("interrupted", "completed", "failed")):
        folder = leave_job(Path("outputs"), {}, status=status)
        (folder / LAST).parent.mkdir()
        (folder / LAST).touch()
        os.utime(folder / "summary.json", (number, number))
    (folder / LAST).unlink()  # the last one failed in its first epoch
    assert (newest_run(), newest_run(is_open=True)) == (Path("outputs/1"), Path("outputs/0"))
    assert find_runs("latest") == [Path("outputs/1")] and RESOLVERS["run_folder"]("latest", "new") == "outputs/0"
    with pytest.raises(SettingError, match="run="):
        find_runs("")  # of a shell variable that is not set: not the runs below the working directory
    assert RESOLVERS["run_folder"](None, "new") == "new" and RESOLVERS["run_folder"]("run", "new") == "run"


def test_processes_share_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process would name it after its own start."""
    for name, value in {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}.items():
        monkeypatch.setenv(name, value)
    assert RESOLVERS["run_folder"](None, "a") == RESOLVERS["run_folder"](None, "b") != "a"


def test_torchrun_without_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Process ids repeat, so the folder also has the time at which torchrun was started."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    started = RESOLVERS["run_folder"](None, "a")
    assert started == RESOLVERS["run_folder"](None, "b") != "a"
    later = SimpleNamespace(create_time=lambda: psutil.Process(os.getppid()).create_time() + 60)
    monkeypatch.setattr("timemachine.run.program.psutil", SimpleNamespace(Process=lambda number: later))
    assert RESOLVERS["run_folder"](None, "a") != started


@pytest.mark.parametrize(
    ("word", "is_taken"),
    [
        *((word, True) for word in ("seed=3", "model.lr=0.5", "model=scratch", "data.corpus='a b'", "recipe=novel",
                                    "callbacks=[early_stopping,none]", "experiment=mine/first", "probes=[stream]")),
        *((word, False) for word in ("model._target_=os.system", "+model.x=1", "~callbacks.page", "debug=profile",
                                     "model.lr=${oc.env:KEY}", "model=../../evil", "model={_target_:os.system}",
                                     "callbacks.mine.folder=x", "seed=1\nmodel._target_=b", "exercise=clipping")),
    ],
)  # fmt: skip
def test_recorded_words_that_a_resumed_run_takes(word: str, is_taken: bool) -> None:
    """A folder may be somebody else's: no word names a class, a path to settings, or a variable."""
    assert bool(RECORDED.fullmatch(word)) is is_taken

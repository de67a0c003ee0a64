"""The folders of runs."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from tests.support.jobs import leave_job
from timemachine.errors import SettingError
from timemachine.run.checks import check_arguments
from timemachine.run.program import RECORDED, RESOLVERS, find_run, newest_run

LAST = "checkpoints/last.ckpt"


@pytest.mark.parametrize(
    ("name", "valid", "invalid"),
    [
        ("devices", ["auto", 2, [0, 1]], [1.5, {}]), ("max_time", ["00:00:01:00", {"hours": 2}, None], [60, 1e300]),
        ("fast_dev_run", [True, 3], [1.5, "foo"]), ("detect_anomaly", [False], [1, "foo"]), ("min_epochs", [2], [[2]]),
        ("enable_model_summary", [True], [{"_target_": "os.getcwd"}]), ("gradient_clip_val", [1, 0.5], ["1"]),
        ("profiler", ["simple", {"_target_": "mine.Profiler"}], [3]),
    ],
)  # fmt: skip
def test_types_of_arguments(name: str, valid: list[Any], invalid: list[Any]) -> None:
    """Lightning would run to the end with many of the wrong ones."""
    for value in valid:
        check_arguments({"_target_": "lightning.pytorch.Trainer", name: value}, "trainer.")
    for value in invalid:
        with pytest.raises(SettingError, match=rf"^trainer\.{name}="):
            check_arguments({"_target_": "lightning.pytorch.Trainer", name: value}, "trainer.")


def test_newest_run() -> None:
    assert newest_run() is None
    with pytest.raises(SettingError, match="run=latest"):
        find_run("latest")
    for number, status in enumerate(("interrupted", "completed", "failed")):
        folder = leave_job(Path("outputs"), {}, status=status)
        (folder / LAST).parent.mkdir()
        (folder / LAST).touch()
        os.utime(folder / "summary.json", (number, number))
    (folder / LAST).unlink()  # the last one failed in its first epoch
    assert (newest_run(), newest_run(is_open=True)) == (Path("outputs/1"), Path("outputs/0"))
    assert find_run("latest") == Path("outputs/1") and RESOLVERS["run_folder"]("latest", "new") == "outputs/0"
    with pytest.raises(SettingError, match="run="):
        find_run("")  # of a shell variable that is not set: not the runs below the working directory
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
                                     r"tags=[$\{oc.env:KEY\}]", "model.lr=${oc.env:KEY}", "model=../../evil",
                                     "model={_target_:os.system}",
                                     "callbacks.mine.folder=x", "seed=1\nmodel._target_=b", "exercise=clipping")),
    ],
)  # fmt: skip
def test_recorded_words_that_a_resumed_run_takes(word: str, is_taken: bool) -> None:
    """A folder may be somebody else's: no word names a class, a path to settings, or a variable."""
    assert bool(RECORDED.fullmatch(word)) is is_taken

"""summary.json: it is written before anything can fail and records the status. Detection of active runs."""

import errno
import json
import math
from pathlib import Path
from typing import Any

import pytest

from timemachine.errors import Diverged, SettingError
from timemachine.run.jobs import is_done, read_job
from timemachine.run.processes import is_first_process
from timemachine.run.record import Record, Role, is_running, read_summary

SETTINGS: dict[str, Any] = {"seed": 3, "model": {"hiddens": 32, "sigma": 0.01}}


def record(folder: Path, in_sweep: bool = False, **more: Any) -> Record:
    role = Role(writes=is_first_process(), sweep="sweep" if in_sweep else None)
    return Record(folder, SETTINGS | more, role, overrides=["model.hiddens=32"])


def test_summary_before_and_after_updates(tmp_path: Path) -> None:
    with record(tmp_path) as run:
        summary = read_summary(tmp_path)
        run.update(metrics={"epoch": 99})
        run.update(metrics={"a": math.nan, "b": [math.inf, 1.5], "c": {"d": (-math.inf, 2)}}, status="completed")
    assert (summary["status"], summary["seed"], summary["settings"]) == ("running", 3, SETTINGS)
    assert summary["versions"].keys() >= {"python", "lightning", "torch", "hydra-core", "wandb", "timemachine"}
    assert summary["git"].keys() == {"revision", "dirty"} and summary["started"]
    text = (tmp_path / "summary.json").read_text()
    assert "NaN" not in text and "Infinity" not in text  # not valid JSON
    last = json.loads(text)
    assert last["metrics"] == {"a": "nan", "b": ["inf", 1.5], "c": {"d": ["-inf", 2]}}
    assert last["status"] == "completed" and last["seconds"] >= 0


@pytest.mark.parametrize("in_sweep", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (ValueError("broken"), "failed", "ValueError: broken"),
        (OSError(errno.ENOSPC, "No space left on device"), "failed", "No space left on device"),
        (Diverged("the loss", "in epoch 3"), "diverged", "diverged in epoch 3: the loss is not finite"),
    ],
)
def test_exceptions_are_recorded(
    error: Exception, status: str, message: str, in_sweep: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        with record(tmp_path, in_sweep) as run:
            run.update(metrics={"epoch": 2})
            raise error
    except (ValueError, OSError, Diverged) as raised:
        assert raised is error and not in_sweep
    else:
        assert in_sweep
        assert ("Traceback" in capsys.readouterr().err) == isinstance(error, ValueError)  # no traceback for a full disk
    summary = read_summary(tmp_path)
    assert (summary["status"], summary["message"], summary["metrics"]) == (status, message, {"epoch": 2})


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(1)])
def test_signal_ends_run_and_sweep(tmp_path: Path, end: BaseException) -> None:
    with pytest.raises((KeyboardInterrupt, SystemExit)), record(tmp_path, in_sweep=True):
        raise end
    assert read_summary(tmp_path)["status"] == "interrupted"


@pytest.mark.parametrize("rank", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_only_the_first_process_writes(rank: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(rank, "1")
    with record(tmp_path) as run:
        run.update(kernel="fused")
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_folder_in_use_is_locked(tmp_path: Path) -> None:
    with record(tmp_path):
        assert is_running(tmp_path) and read_job(tmp_path).status == "running"
        as_killed = (tmp_path / "summary.json").read_bytes()
        with pytest.raises(SettingError, match="another process"), record(tmp_path):
            pass
        assert (tmp_path / "summary.json").read_bytes() == as_killed
    (tmp_path / "summary.json").write_bytes(as_killed)
    assert not is_running(tmp_path)
    killed = read_job(tmp_path)
    assert (killed.status, killed.message) == ("failed", "its process was killed")


def test_new_settings_wait_for_acceptance(tmp_path: Path) -> None:
    """A resume that is killed during imports has not used the new settings."""
    with record(tmp_path):
        pass
    with pytest.raises(KeyboardInterrupt), record(tmp_path, resume=str(tmp_path), seed=4) as run:
        assert run.settings["seed"] == 4
        raise KeyboardInterrupt
    assert read_summary(tmp_path)["settings"] == SETTINGS


def test_jobs_that_are_done(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text("[1]")
    assert not is_done(tmp_path, SETTINGS | {"resume": "sweep"})
    with record(tmp_path, in_sweep=True, resume="sweep") as run:
        run.update(status="completed")
    assert is_done(tmp_path, SETTINGS | {"resume": "another spelling"})
    with pytest.raises(SettingError, match="resume=sweep: "):
        is_done(tmp_path, SETTINGS | {"resume": "sweep", "seed": 4})

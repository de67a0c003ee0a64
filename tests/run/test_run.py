"""summary.json: written before anything can fail, with the status at the end; the lock; damaged files."""

import copy
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.jobs import leave_job
from timemachine.datamodule import TimeMachine
from timemachine.errors import OtherRun, SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.run.files import write_whole
from timemachine.run.run import Run, is_running
from timemachine.run.summary import new_summary, read_summary
from timemachine.study.jobs import load_job

MODEL = RNNLMScratch(2, hiddens=32)
DATA = TimeMachine(num_train=100, num_val=100, text="time machine " * 99)
SETTINGS: dict[str, Any] = {"seed": 3, "model": {"hiddens": 32}, "data": {}, "trainer": {"max_epochs": 2}}


def opened(folder: Path, is_job: bool = False, **settings: Any) -> Run:
    """Return a run to train in."""
    words = ["--config-dir=mine", "model.hiddens=32"]
    return Run(folder, new_summary(copy.deepcopy(SETTINGS) | settings, words, "none"), is_job=is_job)


def test_summary_before_and_after_updates(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.begin(MODEL, DATA, [], [])
        summary = read_summary(tmp_path)
        run.summary |= {"metrics": {"a": math.nan}, "probes": {"b": [math.inf, 1.5]}, "status": "completed"}
    parameters = sum(p.numel() for p in MODEL.parameters())
    assert (summary["status"], summary["parameters"]) == ("running", parameters)
    assert summary["versions"].keys() >= {"python", "lightning", "torch", "hydra-core", "wandb", "timemachine"}
    assert summary["git"].keys() == {"revision", "dirty"} and summary["started"]
    assert str(os.cpu_count()) in summary["machine"]
    last = json.loads((tmp_path / "summary.json").read_text())
    assert (last["metrics"], last["probes"]) == ({"a": "nan"}, {"b": ["inf", 1.5]})  # JSON has no such numbers
    assert last["status"] == "completed" and last["seconds"] >= 0


@pytest.mark.parametrize("rank", ["LOCAL_RANK", "SLURM_PROCID"])
def test_only_the_first_process_writes(rank: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(rank, "1")
    with opened(tmp_path) as run:
        run.begin(MODEL, DATA, [], [])
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_folder_in_use_is_locked(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        run.begin(MODEL, DATA, [], [])
        assert is_running(tmp_path) and load_job(tmp_path).summary["status"] == "running"
        as_killed = (tmp_path / "summary.json").read_bytes()
        with pytest.raises(SettingError), opened(tmp_path):
            pass
        assert (tmp_path / "summary.json").read_bytes() == as_killed
    (tmp_path / "summary.json").write_bytes(as_killed)
    assert not is_running(tmp_path) and load_job(tmp_path).summary["status"] == "failed"


def test_resumed_run_keeps_its_beginning(tmp_path: Path) -> None:
    folder = leave_job(tmp_path, SETTINGS, parent={"run": "another", "epoch": 1})
    with opened(folder, trainer={"max_epochs": 5}) as run:
        run.completed_epochs = 2
        run.begin(MODEL, DATA, [], [])
    summary = read_summary(folder)
    assert summary["started"] == "2026-01-01T00:00:00+0000"
    assert summary["seconds"] >= 12 and summary["parent"]["run"] == "another"
    (session,) = summary["resumed"]
    assert session["epoch"] == 2 and summary["settings"]["trainer"] == {"max_epochs": 5}


def test_objective(tmp_path: Path) -> None:
    """A search gets inf for a run without the metric that it minimises."""
    for number, (metrics, expected) in enumerate([({"val/loss": 2.5}, 2.5), ({"val/loss": math.nan}, math.inf)]):
        with opened(tmp_path / str(number), optimized_metric="val/loss") as run:
            run.summary |= {"status": "completed", "metrics": metrics}
        assert run.objective() == expected
    with opened(tmp_path / "other") as run:
        run.summary |= {"status": "completed", "metrics": {"val/loss": 2.5}}
    assert run.objective() == math.inf


def test_only_typed_overrides_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder from somebody else may contain any overrides."""
    folder = leave_job(tmp_path, SETTINGS, status="running", overrides=["+callbacks.a._target_=os.system"])
    with pytest.raises(KeyboardInterrupt), opened(folder) as run:
        run.completed_epochs = 1
        run.begin(MODEL, DATA, [], [])
        raise KeyboardInterrupt
    printed = capsys.readouterr().out
    assert "--config-dir=mine model.hiddens=32" in printed and "os.system" not in printed


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "summary.json.part").symlink_to(tmp_path / "mine")
    write_whole(tmp_path / "summary.json", b"{}")
    assert (tmp_path / "mine").read_text() == "mine" and not (tmp_path / "summary.json").is_symlink()


@pytest.mark.parametrize("status", ["completed", "diverged", "failed", "running"])
def test_jobs_that_have_ended(status: str, tmp_path: Path) -> None:
    folder = leave_job(tmp_path, SETTINGS, status=status, metrics={"val/perplexity": 7.5})
    with opened(folder, is_job=True) as run:
        assert run.has_ended == (status in ("completed", "diverged"))
        assert run.objective() == (7.5 if status == "completed" else math.inf)


def test_open_job_with_a_checkpoint(tmp_path: Path) -> None:
    """It is resumed with the same settings only; without a checkpoint it starts again with any."""
    folder = leave_job(tmp_path, SETTINGS, status="running")
    with opened(folder, is_job=True, seed=4) as run:
        assert not run.has_ended
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/last.ckpt").touch()
    with opened(folder, is_job=True) as run:
        assert not run.has_ended
    for changes in ({"trainer": {"max_epochs": 9}}, {"callbacks": {"early_stopping": {"patience": 3}}}):
        with pytest.raises(OtherRun, match=r"max_epochs=9|patience=3"), opened(folder, is_job=True, **changes):
            pass
    moved = {"callbacks": {"tables": {"folder": "elsewhere"}}, "trainer": SETTINGS["trainer"] | {"devices": 2}}
    with opened(folder, is_job=True, **moved) as run:
        assert not run.has_ended


@pytest.mark.parametrize("content", ["", '{"status": "completed"}', '{"status": "", "settings": {}, "metrics": ["x"]}'])
def test_a_damaged_summary(content: str, tmp_path: Path) -> None:
    """It is one line, and the folder is not taken for a new one."""
    path = tmp_path / "summary.json"
    path.write_text(content)
    with pytest.raises(SettingError) as error:
        read_summary(tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(SettingError), opened(tmp_path):
        pass
    assert path.read_text() == content and not is_running(tmp_path)

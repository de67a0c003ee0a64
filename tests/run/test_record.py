"""summary.json: written before anything can fail, with the status at the end; the lock; damaged files."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningDataModule

from tests.support.jobs import leave_job
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.run.files import write_whole
from timemachine.run.jobs import read_job
from timemachine.run.record import Record, is_running, read_summary

MODEL = RNNLMScratch(2, hiddens=32)
SETTINGS: dict[str, Any] = {"seed": 3, "model": {"hiddens": 32}, "data": {}, "trainer": {"max_epochs": 2}}


def record(folder: Path, is_job: bool = False, **settings: Any) -> Record:
    typed = ["--config-dir=mine", "model.hiddens=32"]
    return Record(folder, SETTINGS | settings, is_job=is_job, typed=typed, overrides=typed[1:])


def test_summary_before_and_after_updates(tmp_path: Path) -> None:
    with record(tmp_path) as run:
        run.begin(MODEL, LightningDataModule())
        summary = read_summary(tmp_path)
        run.update(metrics={"a": math.nan, "b": [math.inf, 1.5]}, status="completed")
    parameters = sum(p.numel() for p in MODEL.parameters())
    assert (summary["status"], summary["settings"], summary["parameters"]) == ("running", SETTINGS, parameters)
    assert summary["versions"].keys() >= {"python", "lightning", "torch", "hydra-core", "wandb", "timemachine"}
    assert summary["git"].keys() == {"revision", "dirty"} and summary["started"]
    assert str(os.cpu_count()) in summary["machine"]
    last = json.loads((tmp_path / "summary.json").read_text())
    assert last["metrics"] == {"a": "nan", "b": ["inf", 1.5]}  # JSON has no such numbers
    assert last["status"] == "completed" and last["seconds"] >= 0


@pytest.mark.parametrize("rank", ["LOCAL_RANK", "SLURM_PROCID"])
def test_only_the_first_process_writes(rank: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(rank, "1")
    with record(tmp_path) as run:
        run.update(kernel="fused")
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_folder_in_use_is_locked(tmp_path: Path) -> None:
    with record(tmp_path) as run:
        run.update()
        assert is_running(tmp_path) and read_job(tmp_path).status == "running"
        as_killed = (tmp_path / "summary.json").read_bytes()
        with pytest.raises(SettingError), record(tmp_path):
            pass
        assert (tmp_path / "summary.json").read_bytes() == as_killed
    (tmp_path / "summary.json").write_bytes(as_killed)
    assert not is_running(tmp_path) and read_job(tmp_path).status == "failed"


def test_resumed_run_keeps_its_beginning(tmp_path: Path) -> None:
    folder = leave_job(tmp_path, SETTINGS, overrides=["seed=3"], parent={"run": "another", "epoch": 1})
    with record(folder, trainer={"max_epochs": 5}) as run:
        run.completed_epochs = 2
        run.begin(MODEL, LightningDataModule())
    summary = read_summary(folder)
    assert (summary["started"], summary["overrides"]) == ("2026-01-01T00:00:00+0000", ["seed=3"])
    assert summary["seconds"] >= 12 and summary["parent"]["run"] == "another"
    (session,) = summary["resumed"]
    assert session["epoch"] == 2 and summary["settings"]["trainer"] == {"max_epochs": 5}


def test_objective(tmp_path: Path) -> None:
    """A search needs the metric that it minimises; other sweeps do not."""
    for number, (metrics, expected) in enumerate([({"val/loss": 2.5}, 2.5), ({"val/loss": math.nan}, math.inf)]):
        with record(tmp_path / str(number), optimized_metric="val/loss") as run:
            run.update(status="completed", metrics=metrics)
        assert run.objective == expected
    with record(tmp_path / "other") as run:
        run.update(status="completed", metrics={"val/loss": 2.5})
    assert run.objective == math.inf
    run.searches = True
    with pytest.raises(SettingError, match=r"^optimized_metric=val/perplexity: .*val/loss"):
        _ = run.objective


def test_only_typed_overrides_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder from somebody else may contain any overrides."""
    folder = leave_job(tmp_path, SETTINGS, status="running", overrides=["+callbacks.a._target_=os.system"])
    with pytest.raises(KeyboardInterrupt), record(folder) as run:
        run.completed_epochs = 1
        run.begin(MODEL, LightningDataModule())
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
    with record(folder, is_job=True) as run:
        assert run.has_ended == (status in ("completed", "diverged"))
        assert run.objective == (7.5 if status == "completed" else math.inf)


def test_open_job_with_a_checkpoint(tmp_path: Path) -> None:
    """It is resumed with the same settings only; without a checkpoint it starts again with any."""
    folder = leave_job(tmp_path, SETTINGS, status="running")
    with record(folder, is_job=True, seed=4) as run:
        assert not run.has_ended
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/last.ckpt").touch()
    with record(folder, is_job=True) as run:
        assert not run.has_ended
    for changes in ({"trainer": {"max_epochs": 9}}, {"callbacks": {"early_stopping": {"patience": 3}}}):
        with pytest.raises(SettingError, match=r"max_epochs=9|patience=3"):  # noqa: SIM117
            with record(folder, is_job=True, **changes) as run:
                _ = run.has_ended
    moved = {"callbacks": {"tables": {"folder": "elsewhere"}}, "trainer": SETTINGS["trainer"] | {"devices": 2}}
    with record(folder, is_job=True, **moved) as run:
        assert not run.has_ended


@pytest.mark.parametrize("content", ["", "[1]", '{"status": "completed"}', "\xff"])
def test_a_damaged_summary(content: str, tmp_path: Path) -> None:
    """It is one line, and the folder is not taken for a new one."""
    path = tmp_path / "summary.json"
    path.write_text(content, "latin-1")
    with pytest.raises(SettingError) as error:
        read_summary(tmp_path)
    assert "\n" not in str(error.value)
    with pytest.raises(SettingError), record(tmp_path):
        pass
    assert path.read_text("latin-1") == content and not is_running(tmp_path)

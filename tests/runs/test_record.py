import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from timemachine.errors import Diverged, SettingError
from timemachine.runs.record import Record
from timemachine.runs.resuming import is_done, last_checkpoint
from timemachine.runs.summaries import read_summary, run_summary
from timemachine.runs.sweep import summary_or_failure

SETTINGS: dict[str, Any] = {
    "seed": 3,
    "model": {"hiddens": 32, "sigma": 0.01},
    "data": {"num_train": None, "num_val": None},
}


def record(folder: Path, in_sweep: bool = False) -> Record:
    return Record(folder, SETTINGS, in_sweep)


def test_a_run_is_on_record_before_anything_can_fail(tmp_path: Path) -> None:
    with record(tmp_path):
        summary = read_summary(tmp_path)
        assert (summary["status"], summary["message"], summary["seed"]) == ("running", None, 3)
        assert summary["settings"] == SETTINGS
        assert summary["versions"]["python"] == sys.version.split()[0]
        assert set(summary["versions"]) >= {"lightning", "torch", "hydra-core", "wandb", "timemachine"}
        assert set(summary["git"]) == {"revision", "dirty"}
        assert summary["started"]


def test_what_its_user_says_last_stands(tmp_path: Path) -> None:
    with record(tmp_path) as run:
        run.update(metrics={"val/perplexity": 7.25, "epoch": 100})
        run.update(status="completed", parameters=2908)
    summary = read_summary(tmp_path)
    assert (summary["status"], summary["parameters"], summary["settings"]) == ("completed", 2908, SETTINGS)
    assert summary["metrics"] == {"val/perplexity": 7.25, "epoch": 100}
    assert summary["seconds"] >= 0
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {".lock", "summary.json"}  # no .part


REFUSED = (SettingError("model.lr=-1: must be positive"), "failed", "model.lr=-1: must be positive")
ENDS = [
    (ValueError("broken"), "failed", "ValueError: broken"),
    (OSError(28, "No space left on device"), "failed", "No space left on device"),
    (Diverged("the loss", "in epoch 3"), "diverged", "diverged in epoch 3: the loss is not finite"),
]


@pytest.mark.parametrize(("error", "status", "message"), ENDS)
def test_an_exception_is_written_down_and_raised(tmp_path: Path, error: Exception, status: str, message: str) -> None:
    with pytest.raises(type(error)) as raised, record(tmp_path) as run:
        run.update(metrics={"epoch": 2})
        raise error
    assert raised.value is error
    summary = read_summary(tmp_path)
    assert (summary["status"], summary["message"], summary["metrics"]) == (status, message, {"epoch": 2})


def test_a_run_that_is_refused_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("own", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "own" / "notes.txt").write_text("a user's")
    for folder in (tmp_path / "run", tmp_path / "own", tmp_path / "here", tmp_path / "here" / "run"):
        with pytest.raises(SettingError), record(folder) as run:
            (folder / ".hydra").mkdir()
            run.update(corpus={})
            raise REFUSED[0]
    assert {path.name for path in tmp_path.rglob("*")} == {"home", "own", "notes.txt", "here"}


@pytest.mark.parametrize(("error", "status", "message"), [REFUSED, *ENDS])
def test_in_a_sweep_an_exception_is_written_down_and_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception, status: str, message: str
) -> None:
    with record(tmp_path, in_sweep=True):
        raise error
    assert (read_summary(tmp_path)["status"], read_summary(tmp_path)["message"]) == (status, message)
    err = capsys.readouterr().err
    assert err.startswith(f"job {tmp_path.name}: {status}: {message}\n")
    assert ("Traceback" in err) == isinstance(error, ValueError)  # a user's mistake needs none, nor a full disk


@pytest.mark.parametrize("in_sweep", [False, True])
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(1)])  # Lightning turns Ctrl-C into an exit
def test_ctrl_c_ends_a_run_and_a_sweep(tmp_path: Path, in_sweep: bool, interrupt: BaseException) -> None:
    with pytest.raises(KeyboardInterrupt), record(tmp_path, in_sweep):
        raise interrupt
    assert read_summary(tmp_path)["status"] == "interrupted"


@pytest.mark.parametrize("in_sweep", [True, False])
def test_a_job_that_keeps_no_checkpoints_begins_anew(in_sweep: bool, tmp_path: Path) -> None:
    """Not a run that goes on alone: what it has would be lost."""
    (tmp_path / "metrics.csv").write_text("epoch\n1\n2\n3\n")
    settings = SETTINGS | {"resume": "sweep", "trainer": {"enable_checkpointing": False}}
    again = Record(tmp_path, settings, in_sweep)
    if in_sweep:
        assert last_checkpoint(again) is None
    else:
        with pytest.raises(SettingError, match="has trained, but has no checkpoints"):
            last_checkpoint(again)
    assert (tmp_path / "metrics.csv").exists() != in_sweep


def test_numbers_that_are_not_finite_are_texts(tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    with record(tmp_path) as run:
        run.update(metrics={"a": math.nan, "b": [math.inf, 1.5], "c": {"d": (-math.inf, 2)}})
    summary = json.loads((tmp_path / "summary.json").read_text(), parse_constant=refuse)
    assert summary["metrics"] == {"a": "nan", "b": ["inf", 1.5], "c": {"d": ["-inf", 2]}}


@pytest.fixture(params=["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def rank(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


@pytest.mark.parametrize(("number", "writes"), [("0", True), ("1", False)])
def test_only_the_first_process_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str, number: str, writes: bool
) -> None:
    monkeypatch.setenv(rank, number)
    with record(tmp_path) as run:
        run.update(status="completed")
    assert (tmp_path / "summary.json").exists() == writes


def test_a_record_is_found_by_its_folder(tmp_path: Path) -> None:
    with record(tmp_path) as running:
        running.update(corpus={"source": "sample", "sha256": "0"})
    assert run_summary(str(tmp_path)) == read_summary(tmp_path)


DAMAGED = [
    "",
    "{",
    "[1]",
    "null",
    "{}",
    "[" * 100_000,
    '{"settings": []}',
    '{"settings": {}, "status": 3, "metrics": {}}',
]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_job_whose_summary_is_damaged_takes_no_other_with_it(content: str, tmp_path: Path) -> None:
    settings = SETTINGS | {"resume": "sweep"}
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    (tmp_path / "summary.json").write_text(content)
    assert not is_done(tmp_path, settings)
    assert summary_or_failure(tmp_path)["status"] == "failed"
    with Record(tmp_path, settings, in_sweep=True) as run:
        last_checkpoint(run)
    assert read_summary(tmp_path)["status"] == "failed"
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(SettingError):
        Record(tmp_path, settings, in_sweep=False)
    assert (tmp_path / "summary.json").read_text() == content


def test_a_pipe_is_no_summary(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "summary.json")
    with pytest.raises(SettingError, match="is no folder of a run"):
        run_summary(str(tmp_path))


@pytest.mark.parametrize("content", [None, "", "{", "[1]", "null", "[" * 100_000])
def test_what_is_no_runs_folder_is_refused_in_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    with pytest.raises(SettingError, match=rf"^run={tmp_path}: is no folder of a run; type .*$"):
        run_summary(str(tmp_path))

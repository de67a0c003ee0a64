"""A developer's mistake is a whole traceback, a failed run, and exit status 1, not a line about settings."""

import errno
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest

from tests.support.programs import call_program
from timemachine.exercises import generic
from timemachine.language_model import RNNLMScratch
from timemachine.report import main as report_program
from timemachine.runs.files import cannot_write
from timemachine.training.run_log import RunLog

SMALL = ("data=sample", "logger=csv", "model.hiddens=2", "data.num_train=64", "data.num_val=64", "trainer.max_epochs=1")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def opens_a_file(*_: Any) -> None:
    Path("/nowhere/at/all").read_text()


def waits_for_a_server(*_: Any) -> None:
    raise TimeoutError("no answer")


def names_a_setting(*_: Any) -> None:
    raise ValueError("precision of my own")


def logs_too_early(_: Any, trainer: pl.Trainer, module: pl.LightningModule) -> None:
    module.log("precision", 1.0)


@pytest.mark.parametrize(
    ("changed", "hook", "mistake", "says"),
    [
        (RunLog, "on_train_batch_end", opens_a_file, "No such file or directory: '/nowhere/at/all'"),
        (RunLog, "on_train_batch_end", waits_for_a_server, "no answer"),
        (RunLog, "on_fit_start", names_a_setting, "precision of my own"),
        (RunLog, "on_fit_start", logs_too_early, "You can't `self.log\\(\\)` inside `on_fit_start`"),
        (RNNLMScratch, "training_step", lambda *_: "a text", "`training_step` must return a Tensor"),
        (RNNLMScratch, "configure_optimizers", lambda *_: "a text", "Unknown configuration for model optimizers"),
    ],
)
def test_a_mistake_in_a_callback_or_a_model_is_raised_as_it_is(
    changed: type, hook: str, mistake: Callable[..., Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changed, hook, mistake)
    with pytest.raises(Exception, match=says) as caught:
        call_program("train.py", *SMALL, "hydra.run.dir=run", "trainer.precision=64-true")
    assert "type another value" not in str(caught.value).lower()
    assert json.loads(Path("run/summary.json").read_text())["status"] == "failed"


@pytest.mark.parametrize("typed", ["trainer.val_check_interval=1000", "trainer.limit_train_batches=0.001"])
def test_what_lightning_refuses_as_the_fit_begins_is_one_line(typed: str) -> None:
    done = call_program("train.py", *SMALL, typed)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert typed in done.stderr and "Lightning refuses it" in done.stderr


def my_findings(jobs: object) -> None:
    raise KeyError("mine")


def test_a_mistake_in_findings_is_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generic, "findings", my_findings)
    done = call_program("train.py", "-m", *SMALL, "seed=0,1", "hydra.sweep.dir=sweep")
    assert done.returncode == 1
    assert "in my_findings" in done.stderr and "KeyError: 'mine'" in done.stderr
    monkeypatch.setattr(sys, "argv", ["timemachine.report", "sweep"])
    with pytest.raises(KeyError, match="mine"):
        report_program()


@pytest.mark.parametrize(
    ("error", "is_about"),
    [
        (OSError(errno.ENOSPC, "full"), True),
        (PermissionError(errno.EACCES, "no", "run/steps.csv"), True),
        (NotADirectoryError(errno.ENOTDIR, "no", "."), True),  # above it
        (FileNotFoundError(errno.ENOENT, "no", "/nowhere"), False),
        (TimeoutError("no answer"), False),
        (ValueError("run"), False),
    ],
)
def test_which_errors_say_that_a_folder_cannot_be_written(error: Exception, is_about: bool) -> None:
    assert cannot_write("run", error) == is_about

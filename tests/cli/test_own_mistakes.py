"""Errors in a developer's code: a full traceback, a failed run and exit status 1, not a one-line message."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import call_program
from timemachine.exercises import generic
from timemachine.language_model import RNNLMScratch
from timemachine.report import main as report_program
from timemachine.run.tables import Tables

SMALL = ("data=sample", "logger=csv", "model.hiddens=2", "data.num_train=64", "data.num_val=64", "trainer.max_epochs=1")


pytestmark = pytest.mark.usefixtures("quick_calls")


def opens_a_file(*_: Any) -> None:
    Path("/nowhere/at/all").read_text()


def opens_a_file_of_the_run(*_: Any) -> None:
    Path("run/note.json").read_text()


def names_a_setting(*_: Any) -> None:
    raise ValueError("precision of my own")


@pytest.mark.parametrize("mistake", [opens_a_file, opens_a_file_of_the_run, names_a_setting])
def test_callback_mistake_is_raised(mistake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tables, "on_train_batch_end", mistake)
    with pytest.raises(Exception, match=r"/nowhere/at/all|note.json|precision of my own"):
        call_program("train.py", *SMALL, "hydra.run.dir=run", "trainer.precision=64-true")
    assert json.loads(Path("run/summary.json").read_text())["status"] == "failed"


def test_lightnings_own_message_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RNNLMScratch, "training_step", lambda *_: "a text")
    done = call_program("train.py", *SMALL, "hydra.run.dir=run")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and re.match("error: .*training_step", line)


def my_findings(jobs: object) -> None:
    raise KeyError("mine")


def test_findings_mistake_is_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generic, "findings", my_findings)
    done = call_program("train.py", "-m", *SMALL, "seed=0,1", "hydra.sweep.dir=sweep")
    assert done.returncode == 1
    assert "in my_findings" in done.stderr and "KeyError: 'mine'" in done.stderr
    monkeypatch.setattr(sys, "argv", ["timemachine.report", "sweep"])
    with pytest.raises(KeyError, match="mine"):
        report_program()

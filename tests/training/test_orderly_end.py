"""The first signal ends a run after the batch in which it comes, and what it leaves can go on; the second at once."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from tests.support.runs import fit, rows, what_is_left
from timemachine.config import REPOSITORY
from timemachine.corpus import find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.runs.processes import Signalled
from timemachine.runs.summaries import read_summary
from timemachine.training.orderly_end import SIGNALS


class Signal(Callback):
    """Sends this process a signal, `times` times, as a batch begins: in training that of a step, or in validation."""

    def __init__(self, number: int, step: int, times: int = 1, in_validation: bool = False) -> None:
        self.number, self.step, self.times, self.in_validation = number, step, times, in_validation
        self.batches = 0  # that ended since

    def _send(self, trainer: Any, is_it: bool) -> None:
        if is_it and trainer.global_step == self.step:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        self._send(trainer, not self.in_validation)

    def on_validation_batch_start(self, trainer: Any, *_: Any) -> None:
        self._send(trainer, self.in_validation)

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self.batches += trainer.global_step > self.step


def train(folder: Path, *callbacks: Callback) -> None:
    """A run of 4 epochs of 3 steps; from the last checkpoint, if there is one."""
    torch.manual_seed(0)
    data = TimeMachine(32, 4, 96, 40, corpus=find_corpus("sample", []), seed=1)
    fit(folder, RNNLMScratch(28, hiddens=4, lr=2), data, callbacks, max_epochs=4)


@pytest.fixture(autouse=True)
def _default_handlers() -> Iterator[None]:
    """As a shell starts a program, whoever has started the tests, such as nohup."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("in_validation", [False, True])
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_run_after_its_batch(number: signal.Signals, in_validation: bool, tmp_path: Path) -> None:
    handlers = [signal.getsignal(each) for each in SIGNALS]
    sender = Signal(number, 6 if in_validation else 7, in_validation=in_validation)
    with pytest.raises(Signalled) as end:
        train(tmp_path / "run", sender)
    assert (end.value.code, end.value.name) == (128 + number, number.name)
    assert sender.batches == (0 if in_validation else 1)
    assert [signal.getsignal(each) for each in SIGNALS] == handlers
    assert read_summary(tmp_path / "run")["status"] == "interrupted"
    done = 1 if in_validation else 2  # epochs: a validation belongs to the one under way
    assert [row["step"] for row in rows(tmp_path / "run" / "metrics.csv")] == [3, 6][:done]
    train(tmp_path / "run")
    train(tmp_path / "whole")
    assert what_is_left(tmp_path / "run") == what_is_left(tmp_path / "whole")


def test_a_run_that_nothing_ends_puts_the_handlers_back(tmp_path: Path) -> None:
    handlers = [signal.signal(number, lambda *_: None) for number in SIGNALS]
    own = [signal.getsignal(number) for number in SIGNALS]
    train(tmp_path)
    assert [signal.getsignal(number) for number in SIGNALS] == own != handlers


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    """SIGHUP, of a run that nohup started."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    train(tmp_path, Signal(signal.SIGHUP, 7))
    assert read_summary(tmp_path)["status"] == "running"  # until train.py says how it ended
    assert len(rows(tmp_path / "metrics.csv")) == 4


TWICE = """
from pathlib import Path
from tests.training.test_orderly_end import Signal, train
train(Path("{folder}"), Signal({number}, 4, times=2))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_process_at_once(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-c", TWICE.format(folder=tmp_path / "run", number=int(number))]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-number, "")
    assert read_summary(tmp_path / "run")["status"] == "running"  # it had no time to write
    assert len(rows(tmp_path / "run" / "metrics.csv")) == 1

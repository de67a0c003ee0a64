"""Signals interrupt a run, which can be resumed. A resumed run reports a changed kernel."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from tests.support.runs import fit, rows, what_is_left
from timemachine import kernels
from timemachine.config import Train, to_dict
from timemachine.corpus import find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.kernels import fused
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.run.record import Record, Role, read_summary
from timemachine.run.trainer import build_trainer


class Signal(Callback):
    """Send a signal to this process in the validation after step 6."""

    def __init__(self, number: int) -> None:
        self.number = number

    def on_validation_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 6:
            os.kill(os.getpid(), self.number)


def sample_data() -> TimeMachine:
    """Return data with three batches."""
    return TimeMachine(32, 4, 96, 40, corpus=find_corpus("sample", []), seed=1)


def train(folder: Path, *callbacks: Callback, **network: Any) -> None:
    """Train 4 epochs of 3 steps, resuming from the last checkpoint if there is one."""
    torch.manual_seed(0)
    fit(folder, FusedRNNLM(28, hiddens=4, lr=2, **network), sample_data(), callbacks, max_epochs=4)


def test_signal_during_validation(tmp_path: Path) -> None:
    """The signal arrives between two epochs. Afterwards the previous handlers are restored."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.getsignal(number) for number in numbers]
    with pytest.raises(SystemExit):  # Lightning converts KeyboardInterrupt
        train(tmp_path / "run", Signal(signal.SIGTERM))
    assert [signal.getsignal(number) for number in numbers] == handlers
    assert read_summary(tmp_path / "run")["status"] == "interrupted"
    assert [row["step"] for row in rows(tmp_path / "run" / "metrics.csv")] == [3]
    train(tmp_path / "run")
    train(tmp_path / "whole")
    assert what_is_left(tmp_path / "run") == what_is_left(tmp_path / "whole")


@pytest.mark.skipif(not kernels.is_compiled(), reason="the fused kernel is not compiled")
def test_changed_kernel_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Train(resume=str(tmp_path))
    settings.trainer.max_epochs, settings.trainer.accelerator = 1, "cpu"
    with Record(tmp_path, to_dict(settings), Role()) as run:
        run.update(kernel="fused (another)")
    with Record(tmp_path, to_dict(settings), Role()) as run:
        build_trainer(settings, run).fit(FusedRNNLM(28, hiddens=4), sample_data())
    assert "kernel        fused (another) when the run began" in capsys.readouterr().out
    assert read_summary(tmp_path)["kernel"] == f"fused ({fused.instruction_sets()[0]})"

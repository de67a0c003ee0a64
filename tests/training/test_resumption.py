"""The same digits in a run that goes on: its kernel."""

from pathlib import Path

import pytest

from tests.support.runs import fit
from timemachine import kernels
from timemachine.config import Train, to_dict
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.kernels import fused
from timemachine.language_model import RNNLMScratch
from timemachine.runs.record import Record
from timemachine.runs.resuming import kept_backward
from timemachine.runs.summaries import read_summary
from timemachine.training.trainer import build_trainer


@pytest.mark.parametrize("backward", ["bptt", "autograd"])
def test_a_resumed_run_keeps_the_kernel_with_which_it_began(backward: str, sample: Corpus, tmp_path: Path) -> None:
    fit(
        tmp_path,
        RNNLMScratch(28, hiddens=4, backward=backward),
        TimeMachine(64, 8, 310, 70, corpus=sample),
        max_epochs=1,
    )
    assert read_summary(tmp_path)["kernel"] == backward
    again = Record(tmp_path, to_dict(Train(resume=str(tmp_path))), in_sweep=False)
    assert (kept_backward(again, "auto"), kept_backward(again, "fused")) == (backward, "fused")  # as typed


def test_another_kernel_than_before_is_reported(
    sample: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not kernels.is_compiled():
        pytest.skip("the fused kernel is not compiled")
    settings = Train(resume=str(tmp_path))
    settings.trainer.max_epochs, settings.trainer.accelerator = 1, "cpu"
    with Record(tmp_path, to_dict(settings), in_sweep=False) as run:
        run.update(kernel="fused (another)")
    with Record(tmp_path, to_dict(settings), in_sweep=False) as run:
        build_trainer(settings, run).fit(RNNLMScratch(28, hiddens=4), TimeMachine(64, 8, 310, 70, corpus=sample))
    assert "kernel  fused (another) when the run began" in capsys.readouterr().out
    assert read_summary(tmp_path)["kernel"] == f"fused ({fused.instruction_sets()[0]})"

"""The same digits in a run that goes on: its precision and its kernel."""

from pathlib import Path

import pytest
import torch

from tests.support.runs import fit, what_is_left
from timemachine.config import Train, to_dict
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.kernels import choice, fused
from timemachine.language_model import RNNLMScratch
from timemachine.runs.record import Record
from timemachine.runs.resuming import kept_backward
from timemachine.runs.summaries import read_summary
from timemachine.training.trainer import build_trainer


def train(folder: Path, corpus: Corpus, max_epochs: int, backward: str = "auto", precision: str = "32-true") -> None:
    torch.manual_seed(0)
    data, model = TimeMachine(64, 8, 310, 70, corpus=corpus), RNNLMScratch(28, hiddens=4, sigma=0.1, backward=backward)
    fit(folder, model, data, max_epochs=max_epochs, precision=precision)


def test_a_run_in_64_bits_goes_on_in_64_bits(sample: Corpus, tmp_path: Path) -> None:
    for name, ends in (("whole", [3]), ("again", [1, 3])):
        for max_epochs in ends:
            train(tmp_path / name, sample, max_epochs, "bptt", precision="64-true")
    assert what_is_left(tmp_path / "again") == what_is_left(tmp_path / "whole")
    weights = torch.load(tmp_path / "again" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert weights["W_hq"].dtype == torch.float64


@pytest.mark.parametrize("backward", ["bptt", "autograd"])
def test_a_resumed_run_keeps_the_kernel_with_which_it_began(backward: str, sample: Corpus, tmp_path: Path) -> None:
    train(tmp_path, sample, 1, backward)
    assert read_summary(tmp_path)["kernel"] == backward
    again = Record(tmp_path, to_dict(Train(resume=str(tmp_path))), in_sweep=False)
    assert kept_backward(again, "auto") == backward
    assert kept_backward(again, "fused") == "fused"  # as typed


@pytest.mark.parametrize("before", ["fused (another)", "bptt"])
def test_another_kernel_than_before_is_reported(
    before: str, sample: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not choice.is_compiled():
        pytest.skip("the fused kernel is not compiled")
    settings = Train(resume=str(tmp_path))
    settings.trainer.max_epochs, settings.trainer.accelerator = 1, "cpu"
    with Record(tmp_path, to_dict(settings), in_sweep=False) as run:
        run.update(kernel=before)
    with Record(tmp_path, to_dict(settings), in_sweep=False) as run:
        build_trainer(settings, run).fit(RNNLMScratch(28, hiddens=4), TimeMachine(64, 8, 310, 70, corpus=sample))
    assert f"kernel  {before} when the run began" in capsys.readouterr().out
    assert read_summary(tmp_path)["kernel"] == f"fused ({fused.available()})"

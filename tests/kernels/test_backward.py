"""model.backward=fused as a run uses it: close to bptt, the same bits with any number of threads, or refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import runs
from tests.support.activations import without_slope
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.kernels import choice, fused
from timemachine.kernels.loss import kernel_of, sum_over
from timemachine.language_model import RNNLMScratch

needs_library = pytest.mark.skipif(fused.available() is None, reason="the fused kernel is not compiled")


def fit(corpus: Corpus, folder: Path, threads: int = 1, **network: Any) -> RNNLMScratch:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    data = TimeMachine(256, 16, 2000, 500, corpus=corpus)
    model = RNNLMScratch(len(data.vocab), hiddens=24, sigma=0.1, **network)
    runs.fit(folder, model, data, max_epochs=2, gradient_clip_val=0.1)
    return model


@needs_library
@pytest.mark.parametrize("network", [{}, {"activation": "relu", "input": "embedding", "embedding_dim": 5}])
def test_it_trains_as_bptt_does_and_alike_on_any_number_of_threads(
    network: dict[str, Any], sample: Corpus, tmp_path: Path
) -> None:
    by_hand = fit(sample, tmp_path / "by_hand", backward="bptt", **network)
    compiled = fit(sample, tmp_path / "compiled", backward="fused", **network)
    again = fit(sample, tmp_path / "again", threads=3, backward="fused", **network)
    for name, weight in compiled.state_dict().items():
        torch.testing.assert_close(weight, by_hand.state_dict()[name], rtol=1e-3, atol=1e-5)
        assert torch.equal(weight, again.state_dict()[name])


@pytest.mark.parametrize(
    ("activation", "is_known", "compiled"), [("tanh", True, False), ("softsign", True, True), ("tanh", False, True)]
)
def test_what_it_does_not_compute_is_refused_in_one_line(
    activation: str, is_known: bool, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "is_compiled", lambda: compiled)
    with pytest.raises(SettingError, match=r"^model\.backward=fused: .*; type for example model\.backward=bptt$"):
        choice.refuse_fused(activation, is_known)


@pytest.mark.parametrize("backward", ["bptt", "fused"])
def test_an_activation_without_a_derivative_is_left_to_autograd(backward: str) -> None:
    with without_slope():
        assert kernel_of(RNNLMScratch(5, activation="gelu")) == "autograd"
        with pytest.raises(
            SettingError, match=f"^model.backward={backward}: .*gelu.*; type .* model.backward=autograd$"
        ):
            RNNLMScratch(5, activation="gelu", backward=backward)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_a_sum_of_many_losses_does_not_overflow_in_16_bits(dtype: torch.dtype) -> None:
    loss_BT = torch.full((1024, 32), 3.5, dtype=dtype, requires_grad=True)
    mean = sum_over(loss_BT, loss_BT.numel())
    mean.backward()
    assert mean.item() == 3.5
    assert loss_BT.grad is not None
    assert loss_BT.grad.unique().item() == 2**-15

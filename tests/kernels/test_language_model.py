"""FusedRNNLM: the same numbers with fused, bptt and autograd, bit-identical for any number of threads."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.prune import l1_unstructured

from timemachine import kernels
from timemachine.config import MODEL
from timemachine.decoding import TorchDecoder, continue_text, make_decoder
from timemachine.errors import SettingError
from timemachine.kernels.activations import BY_HAND
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.language_model import RNNLMScratch, cross_entropy, sum_over
from timemachine.rnn import ACTIVATIONS, RNNScratch
from timemachine.vocab import Vocab

VOCAB = Vocab("abc ")


@pytest.fixture(autouse=True)
def _gelu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add an activation, as a user may, for which the kernels have no derivative."""
    monkeypatch.setitem(ACTIVATIONS, "gelu", F.gelu)
    monkeypatch.setitem(MODEL, "activation", ("tanh", "relu", "gelu"))


@pytest.mark.parametrize(
    ("network", "compiled", "expected"),
    [
        ({}, True, "fused"),
        ({}, False, "bptt"),
        ({"dtype": torch.bfloat16}, True, "bptt"),
        ({"hiddens": 513}, True, "bptt"),  # too wide for fused to be faster
        ({"hiddens": 513, "backward": "fused"}, True, "fused"),
        ({"backward": "autograd"}, True, "autograd"),
        ({"activation": "gelu"}, True, "autograd"),  # no known derivative
        ({"cell": "gru"}, True, "fused"),
        ({"cell": "deep_rnn"}, False, "autograd"),
        ({"cell": "deep_rnn", "activation": "gelu"}, True, "autograd"),
    ],
)
def test_choice_of_a_kernel(
    network: dict[str, Any], compiled: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "is_compiled", lambda: compiled)
    dtype = network.pop("dtype", torch.float32)
    assert FusedRNNLM(28, **network).to(dtype).kernel() == expected
    with torch.autocast("cpu", torch.bfloat16):
        assert FusedRNNLM(28).kernel() == "autograd"


@pytest.mark.parametrize(
    "network",
    [
        *({"activation": name, "backward": by} for name in BY_HAND for by in ("fused", "bptt", "autograd")),
        {"input": "embedding", "embedding_dim": 3},
        {"input": "embedding", "embedding_dim": 3, "tie_weights": True, "embedding_sigma": 0.2},
        {"activation": "gelu"},
        *({"cell": cell} for cell in ("lstm", "gru", "deep_rnn")),
        {"cell": "lstm", "input": "embedding", "embedding_dim": 3},
    ],
)
@pytest.mark.parametrize("windows", [1, 4])  # bptt has one table for a vocabulary that is large against the batch
def test_gradients_against_the_lesson(network: dict[str, Any], windows: int) -> None:
    batch = torch.randint(5, (windows, 6)), torch.randint(5, (windows, 6))
    results = []
    if network.get("backward") == "fused" and not kernels.is_compiled():
        pytest.skip("the fused kernel is not compiled")
    fast = FusedRNNLM(5, hiddens=3, sigma=0.7, **network).double()
    lesson = RNNLMScratch(5, hiddens=3, sigma=0.7, **network | {"backward": "autograd"}).double()
    lesson.load_state_dict(fast.state_dict())
    for model in (lesson, fast):
        mean, nll_BT = model.mean_nll(batch, 7)  # the divisor for several processes
        logits_BTV, state_BS = model(batch[0])
        continued_BTV, last_BS = model(batch[0], state_BS)  # has a gradient through both states
        loss = mean + (continued_BTV * logits_BTV).sum() + 2 * last_BS.square().sum()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        results.append([mean, nll_BT, model.nll(batch), logits_BTV, continued_BTV, last_BS, *gradients])
    text = continue_text(lesson, VOCAB, "ab", 30), lesson.predict("ab", 30, VOCAB)
    assert (continue_text(fast, VOCAB, "ab", 30), fast.predict("ab", 30, VOCAB)) == text
    assert not results[1][1].requires_grad
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-12)


def test_second_derivative_of_bptt() -> None:
    model = FusedRNNLM(5, backward="bptt")
    H_TBH, _ = model.hidden_states(torch.randint(5, (2, 3)))
    with pytest.raises(RuntimeError, match="backward='autograd'"):
        torch.autograd.grad(H_TBH.square().sum(), [model.rnn.W_hh], create_graph=True)


@pytest.mark.parametrize(("dtype", "compiled"), [(torch.float32, False), (torch.bfloat16, True)])
def test_invalid_for_fused(dtype: torch.dtype, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "is_compiled", lambda: compiled)
    model, X_BT = FusedRNNLM(5, backward="fused").to(dtype), torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(SettingError, match=r"^model\.backward=fused: [^\n]*$"):
        model.mean_nll((X_BT, X_BT))
    with torch.no_grad():  # such as evaluating the model outside of training
        assert model.mean_nll((X_BT, X_BT))[1].shape == (2, 3)


def test_an_activation_without_a_kernel() -> None:
    """tests/test_cells.py has the cells without one."""
    with pytest.raises(SettingError, match=r"^model\.backward=bptt: [^\n]*$"):
        FusedRNNLM(5, activation="gelu", backward="bptt")


def test_a_pruned_weight() -> None:
    """A hook computes it before the forward pass, which the kernels do not call."""
    model = FusedRNNLM(5, cell="deep_rnn")
    l1_unstructured(model.rnn.rnns[1], "W_xh", 0.5)
    assert model.kernel() == "autograd"


class Doubled(RNNLMScratch):
    """A mixin as well as a model."""

    def loss(self, Y_hat: Tensor, Y: Tensor) -> Tensor:
        return 2 * super().loss(Y_hat, Y)


class Shifted(FusedRNNLM):
    def hidden_states(self, X_BT: Tensor, state_BS: Tensor | None = None) -> tuple[Tensor, Tensor]:
        H_TBH, state_BS = super().hidden_states(X_BT, state_BS)
        return H_TBH + 1, state_BS


@pytest.mark.parametrize("way", ["mixin", "subclass", "class", "model", "cell", "layer"])
def test_replaced_methods_are_called(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    kind = {"mixin": type("Mixed", (Doubled, FusedRNNLM), {}), "subclass": Shifted}.get(way, FusedRNNLM)
    network: dict[str, Any] = {"hiddens": 3, "sigma": 0.7, "cell": "deep_rnn" if way == "layer" else "rnn"}
    model, batch = kind(5, **network), (torch.randint(5, (4, 6)), torch.randint(5, (4, 6)))
    lesson = RNNLMScratch(5, **network)
    lesson.load_state_dict(model.state_dict())
    before = lesson.mean_nll(batch)[0]
    if way == "class":  # as d2l.add_to_class
        monkeypatch.setattr(RNNLMScratch, "loss", lambda self, Y_hat, Y: 2 * cross_entropy(Y_hat, Y))
        monkeypatch.setattr(RNNLMScratch, "output_layer", lambda self, H_TBH: (H_TBH @ self.W_hq).swapaxes(0, 1) * 3)
    if way == "model":
        for each in (model, lesson):
            monkeypatch.setattr(each, "loss", lambda Y_hat, Y: 2 * cross_entropy(Y_hat, Y))
    if way in ("cell", "layer"):
        forward = RNNScratch.forward
        monkeypatch.setattr(RNNScratch, "forward", lambda *given: tuple(each + 1 for each in forward(*given)))
    assert model.kernel() == "autograd"
    assert abs(model.mean_nll(batch)[0] - before) > 1e-3
    if way not in ("mixin", "subclass"):
        assert torch.equal(model.mean_nll(batch)[0], lesson.mean_nll(batch)[0])
    assert isinstance(make_decoder(model, VOCAB), TorchDecoder)  # not NumPy's
    model.hparams["backward"] = "fused"
    with pytest.raises(SettingError, match=r"^model\.backward=fused: "):
        model.mean_nll(batch)


def test_an_assigned_method_that_is_the_same() -> None:
    """Lightning does this with several processes."""
    model = FusedRNNLM(5, backward="bptt")
    model.forward = model.forward  # type: ignore[method-assign]
    assert model.kernel() == "bptt"


def test_sums_in_16_bits() -> None:
    loss_BT = torch.full((1024, 32), 3.5, dtype=torch.float16, requires_grad=True)
    mean = sum_over(loss_BT, loss_BT.numel())
    mean.backward()
    assert mean.item() == 3.5
    assert loss_BT.grad is not None
    assert loss_BT.grad.unique().item() == 2**-15

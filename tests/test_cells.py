"""Cells: the settings they accept, PyTorch's layers with their weights, and what training and evaluation rely on.

T time steps, B batch, D inputs, H hidden units, S size of a state. test_matrix.py trains and resumes each cell.
"""

import inspect
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from timemachine.cells import CELLS, LSTMScratch, input_weights
from timemachine.errors import SettingError
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.language_model import RNNLMScratch
from timemachine.rnn import RNNScratch

PYTORCH: dict[str, Any] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM, "deep_rnn": nn.RNN}
GATES = {"gru": "rzh", "lstm": "ifco"}  # in PyTorch's order


class Recurrent(nn.Module):
    """An RNN as a submodule, so that no weight's name starts with W_x."""

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
        super().__init__()
        self.part = RNNScratch(num_inputs, num_hiddens, sigma)


@pytest.mark.parametrize(
    ("network", "named"),
    [
        ({"cell": "grru"}, "model.cell=grru"),
        ({"cell": "lstm", "activation": "relu"}, "model.activation=relu"),
        ({"cell": "recurrent", "input_lr_factor": 4}, "model.input_lr_factor=4"),
        ({"cell": "lstm", "sigma_hh": 0.2}, "model.sigma_hh=0.2"),
        ({"init_hh": "orthogonal", "sigma_hh": 0.2}, "model.sigma_hh=0.2"),
        ({"init_hh": "uniform"}, "model.init_hh=uniform"),
        ({"cell": "lstm", "layers": 3}, "model.layers=3"),
        ({"cell": "lstm", "backward": "bptt"}, "model.backward=bptt"),
        ({"lr": 1e23, "input_lr_factor": 1e23}, "model.input_lr_factor=1e+23"),  # the product overflows float32
        ({"tie_weights": True}, "model.tie_weights=true"),
        ({"tie_weights": True, "input": "embedding", "embedding_dim": 31}, "model.tie_weights=true"),
    ],
)
def test_what_a_model_rejects(network: dict[str, Any], named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CELLS, "recurrent", Recurrent)
    with pytest.raises(SettingError, match=rf"^{re.escape(named)}: [^\n]*$"):
        FusedRNNLM(5, **network)


@pytest.mark.parametrize("cell", [name for name in CELLS if "sigma_xh" in inspect.signature(CELLS[name]).parameters])
def test_sigma_xh_scales_input_weights(cell: str) -> None:
    """The input weights of the first layer are drawn as before and multiplied; all other draws keep their bytes."""
    models = []
    for sigma_xh in (None, 0.01, 2.0):
        torch.manual_seed(0)
        models.append(RNNLMScratch(27, 200, cell=cell, sigma_xh=sigma_xh))
    default, same, large = models
    weights = {id(weight) for weight in input_weights(large.rnn)}
    named = [name for name, weight in large.rnn.named_parameters() if id(weight) in weights]
    assert named == [name for name, weight in large.rnn.named_parameters() if len(weight) == 27]  # one row per input
    for (name, one), equal, other in zip(
        default.named_parameters(), same.parameters(), large.parameters(), strict=True
    ):
        assert torch.equal(one, equal), name
        if id(other) in weights:
            torch.testing.assert_close(other, one * 200)
            assert other.std().item() == pytest.approx(2, rel=0.05)  # 5,400 draws: five standard errors
        else:
            assert torch.equal(one, other), name


@pytest.mark.parametrize("cell", [name for name in CELLS if "init_hh" in inspect.signature(CELLS[name]).parameters])
def test_init_hh_replaces_each_recurrent_matrix(cell: str) -> None:
    """The (H, H) blocks of all gates and layers. With the identity all other draws keep their bytes."""
    models = {}
    for init_hh in ("gaussian", "orthogonal", "identity"):
        torch.manual_seed(0)
        models[init_hh] = FusedRNNLM(27, 20, cell=cell, init_hh=init_hh)
    state_weights = [name for name, _ in models["gaussian"].named_parameters() if re.search(r"W_h[^q]", name)]
    count = len(state_weights)
    assert count == {"rnn": 1, "gru": 3, "lstm": 4, "deep_rnn": 2}.get(cell, count)
    for name, drawn in models["gaussian"].named_parameters():
        orthogonal, identity = (models[init_hh].get_parameter(name) for init_hh in ("orthogonal", "identity"))
        if name in state_weights:
            torch.testing.assert_close(orthogonal @ orthogonal.T, torch.eye(20), atol=1e-5, rtol=0)
            assert torch.equal(identity, torch.eye(20)) and not torch.allclose(orthogonal, torch.eye(20), atol=0.1)
        else:
            assert torch.equal(identity, drawn), name
    blocks = [models["orthogonal"].get_parameter(name) for name in state_weights]
    assert len({tuple(block.flatten().tolist()) for block in blocks}) == len(blocks)


# --- PyTorch's layers ---


def layers_of(name: str, cell: nn.Module) -> list[list[list[Tensor]]]:
    """Return the input weights, state weights and biases of each layer, per gate in PyTorch's order."""
    if name in GATES:
        return [[[getattr(cell, f"{part}{gate}") for gate in GATES[name]] for part in ("W_x", "W_h", "b_")]]
    return [[[rnn.W_xh], [rnn.W_hh], [rnn.b_h]] for rnn in getattr(cell, "rnns", [cell])]


def copied(name: str, cell: nn.Module, layers: int = 1, **settings: str) -> nn.RNNBase:
    """Return PyTorch's layer with the weights of a cell. The second of its two biases is zero."""
    theirs: nn.RNNBase = PYTORCH[name](7, 5, layers, **settings).double()
    weights: dict[str, Tensor] = {}
    for number, (W_x, W_h, b) in enumerate(layers_of(name, cell)):
        weights |= {f"weight_ih_l{number}": torch.cat(W_x, 1).T, f"weight_hh_l{number}": torch.cat(W_h, 1).T}
        weights |= {f"bias_ih_l{number}": torch.cat(b), f"bias_hh_l{number}": torch.zeros_like(torch.cat(b))}
    theirs.load_state_dict(weights)
    return theirs


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("rnn", {}, {}),
        ("rnn", {"activation": "relu"}, {"nonlinearity": "relu"}),
        ("gru", {}, {}),
        ("lstm", {}, {}),
        ("deep_rnn", {"layers": 3}, {"layers": 3}),
    ],
)
def test_equals_pytorchs_layer(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Compare the outputs and all gradients of two passes, from a zero state and from the state of the first."""
    torch.manual_seed(0)
    cell = CELLS[name](7, 5, **ours).double()
    for parameter in cell.parameters():  # including the biases
        nn.init.normal_(parameter, std=0.4)
    layer = copied(name, cell, **theirs)
    X_TBD, weight_TBH = torch.randn(6, 3, 7).double(), torch.randn(6, 3, 5).double()
    inputs = (X_TBD.clone().requires_grad_(), X_TBD.clone().requires_grad_())
    outputs = []
    for module, inputs_TBD in zip((cell, layer), inputs, strict=True):
        first_TBH, state = module(inputs_TBD[:2])
        outputs.append(torch.cat([first_TBH, module(inputs_TBD[2:], state)[0]]))
        (outputs[-1] * weight_TBH).sum().backward()
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-12)
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-11, atol=1e-11)
    for number, parts in enumerate(layers_of(name, cell)):
        for part, weights in zip(("weight_ih", "weight_hh", "bias_ih"), parts, strict=True):
            gradient = torch.cat([weight.grad for weight in weights if weight.grad is not None], -1)
            expected = getattr(layer, f"{part}_l{number}").grad
            expected = expected.T if expected.dim() == 2 else expected
            torch.testing.assert_close(gradient, expected, rtol=1e-11, atol=1e-11)


def test_initial_forget_bias() -> None:
    biases = {name: b.tolist() for name, b in LSTMScratch(3, 1, forget_bias=1.5).named_parameters() if "b_" in name}
    assert biases == {"b_i": [0], "b_f": [1.5], "b_o": [0], "b_c": [0]}


# --- What training and evaluation rely on ---


@pytest.mark.parametrize("cell", CELLS)
@torch.no_grad()
def test_properties_of_each_cell(cell: str) -> None:
    """Its shapes, and that it is causal, treats windows alone, and carries its state."""
    num_steps, num_windows, hiddens, cut = 7, 2, 64, 3
    model = RNNLMScratch(28, hiddens, sigma=1.0, cell=cell).double()  # the recurrence amplifies rounding errors
    X_BT = (torch.arange(num_windows)[:, None] + torch.arange(num_steps)) % model.vocab_size
    inputs, rnn = model.inputs(X_BT), model.rnn.eval()  # dropout would change every pass

    def assert_close(ours: Tensor, theirs: Tensor) -> None:
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7 * float(theirs.abs().max()))

    outputs_TBH, state_BS = rnn(inputs, None)
    assert outputs_TBH.shape == (num_steps, num_windows, hiddens)
    assert isinstance(state_BS, Tensor) and state_BS.dim() == 2 and len(state_BS) == num_windows
    other_TBH, _ = rnn(torch.cat([inputs[:cut], inputs[cut:].roll(1, 1)]), None)
    assert_close(other_TBH[:cut], outputs_TBH[:cut])  # no output depends on a later input
    alone_T1H, _ = rnn(inputs[:, :1], None)
    assert_close(alone_T1H, outputs_TBH[:, :1])  # nor on another window of the batch
    first_TBH, carried_BS = rnn(inputs[:cut], None)
    second_TBH, last_BS = rnn(inputs[cut:], carried_BS)
    assert_close(torch.cat([first_TBH, second_TBH]), outputs_TBH)  # two passes are one
    assert_close(last_BS, state_BS)


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_of_each_cell(cell: str) -> None:
    """The input and each weight have an effect, and their gradients are finite differences: no term is missing."""
    torch.manual_seed(0)
    module = CELLS[cell](3, 4, sigma=1.0).double().eval()
    weights = dict(module.named_parameters())
    inputs = torch.randn(3, 2, 3).double().requires_grad_(), *weights.values()

    def outputs(X_TBD: Tensor, *values: Tensor) -> Any:
        return torch.func.functional_call(module, dict(zip(weights, values, strict=True)), (X_TBD,))

    torch.autograd.grad(outputs(*inputs)[0].sum(), inputs)  # an error if one is not used
    torch.autograd.gradcheck(outputs, inputs)

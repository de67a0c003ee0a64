"""The cells of chapter 10 equal PyTorch's layers. test_matrix.py trains and resumes them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from timemachine.cells import GRUScratch, LSTMScratch, StackedRNNScratch
from timemachine.rnn import CELLS, input_weights

NAMES = ["gru", "lstm", "deep_rnn"]
PYTORCH: dict[str, Any] = {"gru": nn.GRU, "lstm": nn.LSTM, "deep_rnn": nn.RNN}
GATES = {"gru": "rzh", "lstm": "ifco"}  # in PyTorch's order


def layers_of(name: str, cell: nn.Module) -> list[list[list[Tensor]]]:
    """Return the input weights, state weights and biases of each layer, per gate in PyTorch's order."""
    if isinstance(cell, StackedRNNScratch):
        return [[[rnn.W_xh], [rnn.W_hh], [rnn.b_h]] for rnn in cell.rnns]  # type: ignore[list-item]
    return [[[getattr(cell, f"{part}{gate}") for gate in GATES[name]] for part in ("W_x", "W_h", "b_")]]


def copied(name: str, cell: nn.Module, num_inputs: int, num_hiddens: int, num_layers: int) -> nn.RNNBase:
    """Return PyTorch's layer with the weights of a cell. The second of its two biases is zero."""
    theirs: nn.RNNBase = PYTORCH[name](num_inputs, num_hiddens, num_layers, dtype=next(cell.parameters()).dtype)
    with torch.no_grad():
        for number, (W_x, W_h, b) in enumerate(layers_of(name, cell)):
            getattr(theirs, f"weight_ih_l{number}").copy_(torch.cat(W_x, 1).T)
            getattr(theirs, f"weight_hh_l{number}").copy_(torch.cat(W_h, 1).T)
            getattr(theirs, f"bias_ih_l{number}").copy_(torch.cat(b))
            getattr(theirs, f"bias_hh_l{number}").zero_()
    return theirs


@pytest.mark.parametrize("name", NAMES)
def test_equals_pytorchs_layer(name: str) -> None:
    """Compare the outputs and the gradients of all weights, from a zero state."""
    torch.manual_seed(0)
    num_layers = 3 if name == "deep_rnn" else 1
    more = {"layers": num_layers} if name == "deep_rnn" else {}
    cell = CELLS[name](7, 5, 0.4, **more).double()
    with torch.no_grad():
        for parameter in cell.parameters():  # including the biases
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs = copied(name, cell, 7, 5, num_layers)
    X_TBD, weight_TBH = torch.randn(6, 3, 7).double(), torch.randn(6, 3, 5).double()
    outputs_TBH, _ = cell(X_TBD)
    expected_TBH, _ = theirs(X_TBD)
    torch.testing.assert_close(outputs_TBH, expected_TBH, rtol=0, atol=1e-12)
    (outputs_TBH * weight_TBH).sum().backward()
    (expected_TBH * weight_TBH).sum().backward()
    for number, layer in enumerate(layers_of(name, cell)):
        for part, weights in zip(("weight_ih", "weight_hh", "bias_ih"), layer, strict=True):
            gradient = torch.cat([weight.grad for weight in weights if weight.grad is not None], -1)
            expected = getattr(theirs, f"{part}_l{number}").grad
            expected = expected.T if expected.dim() == 2 else expected
            torch.testing.assert_close(gradient, expected, rtol=1e-11, atol=1e-11)


def test_weights_that_read_inputs() -> None:
    for cell, names in (
        (GRUScratch(4, 3), ("W_xr", "W_xz", "W_xh")),
        (LSTMScratch(4, 3), ("W_xi", "W_xf", "W_xo", "W_xc")),
    ):
        assert {*map(id, input_weights(cell))} == {id(getattr(cell, name)) for name in names}
    deep = StackedRNNScratch(4, 3)
    assert [*map(id, input_weights(deep))] == [id(deep.rnns[0].W_xh)]


def test_initial_forget_bias() -> None:
    biases = {
        name: bias.tolist() for name, bias in LSTMScratch(3, 2, forget_bias=1.5).named_parameters() if "b_" in name
    }
    assert biases == {"b_i": [0, 0], "b_f": [1.5, 1.5], "b_o": [0, 0], "b_c": [0, 0]}

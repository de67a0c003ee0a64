"""The cells of chapter 10: they equal PyTorch's layers, keep the contract of cells, and work in place of the RNN."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.runs import fit, what_is_left
from timemachine.cells import GRUScratch, LSTMScratch, StackedRNNScratch
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.decoding import continue_text
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.rnn import CELLS, input_weights
from timemachine.run.load import load_model

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


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize("name", NAMES)
def test_equals_pytorchs_layer(name: str, dtype: torch.dtype, tolerance: float) -> None:
    """Compare the outputs and the gradients of all weights, from a zero state."""
    torch.manual_seed(0)
    num_layers = 3 if name == "deep_rnn" else 1
    more = {"layers": num_layers} if name == "deep_rnn" else {}
    cell = CELLS[name](7, 5, 0.4, **more).to(dtype)
    with torch.no_grad():
        for parameter in cell.parameters():  # including the biases
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs = copied(name, cell, 7, 5, num_layers)
    X_TBD, weight_TBH = torch.randn(6, 3, 7, dtype=dtype), torch.randn(6, 3, 5, dtype=dtype)
    outputs_TBH, _ = cell(X_TBD)
    expected_TBH, _ = theirs(X_TBD)
    torch.testing.assert_close(outputs_TBH, expected_TBH, rtol=0, atol=tolerance)
    (outputs_TBH * weight_TBH).sum().backward()
    (expected_TBH * weight_TBH).sum().backward()
    for number, layer in enumerate(layers_of(name, cell)):
        for part, weights in zip(("weight_ih", "weight_hh", "bias_ih"), layer, strict=True):
            gradient = torch.cat([weight.grad for weight in weights if weight.grad is not None], -1)
            expected = getattr(theirs, f"{part}_l{number}").grad
            expected = expected.T if expected.dim() == 2 else expected
            torch.testing.assert_close(gradient, expected, rtol=10 * tolerance, atol=10 * tolerance)


def test_weights_that_read_inputs() -> None:
    for cell, names in (
        (GRUScratch(4, 3), ("W_xr", "W_xz", "W_xh")),
        (LSTMScratch(4, 3), ("W_xi", "W_xf", "W_xo", "W_xc")),
    ):
        assert {*map(id, input_weights(cell))} == {id(getattr(cell, name)) for name in names}
    deep = StackedRNNScratch(4, 3)
    assert [*map(id, input_weights(deep))] == [id(deep.rnns[0].W_xh)]


@pytest.mark.parametrize("name", NAMES)
def test_trains_resumes_and_generates(name: str, sample: Corpus, tmp_path: Path) -> None:
    def train(folder: str, max_epochs: int) -> None:
        torch.manual_seed(0)
        data = TimeMachine(32, 8, 100, 64, corpus=sample)
        fit(tmp_path / folder, FusedRNNLM(28, 5, sigma=0.3, cell=name), data, max_epochs=max_epochs)

    train("whole", 2)
    train("run", 1)
    train("run", 2)
    assert what_is_left(tmp_path / "run") == what_is_left(tmp_path / "whole")
    model, vocab = load_model(tmp_path / "run")
    greedy = continue_text(model, vocab, "it has", 9, num_samples=2)
    assert greedy == [model.predict("it has", 9, vocab)] * 2

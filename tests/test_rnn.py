import pytest
import torch
from torch import Tensor

from timemachine.rnn import RNNScratch


def pair(num_inputs: int, num_hiddens: int, activation: str) -> tuple[RNNScratch, torch.nn.RNN]:
    """Return our RNN and torch's with the same weights in float64. Torch transposes them and has a second bias."""
    torch.manual_seed(0)
    ours = RNNScratch(num_inputs, num_hiddens, sigma=0.5, activation=activation).double()
    torch.nn.init.normal_(ours.b_h)
    theirs = torch.nn.RNN(num_inputs, num_hiddens, nonlinearity=activation).double()
    weights = {"weight_ih_l0": ours.W_xh.T, "weight_hh_l0": ours.W_hh.T, "bias_ih_l0": ours.b_h}
    theirs.load_state_dict(weights | {"bias_hh_l0": torch.zeros(num_hiddens)})
    return ours, theirs


def gradients(outputs: Tensor, H_BH: Tensor, wanted: list[Tensor]) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    scalar = (outputs * torch.randn_like(outputs)).sum() + (H_BH * torch.randn_like(H_BH)).sum()
    return torch.autograd.grad(scalar, wanted)


@pytest.mark.parametrize(("T", "B", "D", "H"), [(7, 3, 5, 4), (1, 1, 1, 1)])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("with_state", [True, False])
def test_rnn_against_torch(T: int, B: int, D: int, H: int, activation: str, with_state: bool) -> None:
    ours, theirs = pair(D, H, activation)
    X_TBD = torch.randn(T, B, D, dtype=torch.float64, requires_grad=True)
    H_BH = torch.randn(B, H, dtype=torch.float64, requires_grad=True) if with_state else None

    outputs, last_BH = ours(X_TBD, H_BH)
    expected, expected_1BH = theirs(X_TBD, None if H_BH is None else H_BH[None])
    torch.testing.assert_close((outputs, last_BH), (expected, expected_1BH[0]))

    given = [X_TBD] if H_BH is None else [X_TBD, H_BH]
    mine = gradients(outputs, last_BH, [*given, ours.W_xh, ours.W_hh, ours.b_h])
    *of_given, dW_ih, dW_hh, db, _ = gradients(expected, expected_1BH[0], [*given, *theirs.parameters()])
    torch.testing.assert_close(mine, (*of_given, dW_ih.T, dW_hh.T, db))

"""Cells: their settings, and the properties that training and evaluation rely on.

T time steps, B batch, H hidden units, S size of a state.
"""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from timemachine.errors import SettingError
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.language_model import RNNLMScratch
from timemachine.rnn import CELLS, RNNScratch


class Recurrent(nn.Module):
    """An RNN as a submodule, so that no weight's name starts with W_x."""

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
        super().__init__()
        self.part = RNNScratch(num_inputs, num_hiddens, sigma)

    def forward(self, inputs: Tensor, state_BS: Tensor | None = None) -> Any:
        return self.part(inputs, state_BS)


@pytest.fixture(autouse=True)
def _recurrent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CELLS, "recurrent", Recurrent)


@pytest.mark.parametrize(
    ("network", "named"),
    [
        ({"cell": "lstm", "activation": "relu"}, "model.activation=relu"),
        ({"cell": "recurrent", "input_lr_factor": 4}, "model.input_lr_factor=4"),
        ({"cell": "lstm", "sigma_hh": 0.2}, "model.sigma_hh=0.2"),
        ({"cell": "lstm", "layers": 3}, "model.layers=3"),
        ({"cell": "lstm", "backward": "bptt"}, "model.backward=bptt"),
    ],
)
def test_what_a_cell_rejects(network: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingError, match=rf"^{named}: [^\n]*$"):
        FusedRNNLM(5, **network)


@torch.no_grad()
def check_cell(model: RNNLMScratch, num_steps: int = 7) -> None:
    """Check the cell of a model: its shapes, and that it is causal, treats windows alone, and carries its state."""
    model.double()  # the recurrence amplifies rounding errors
    num_windows, hiddens, cut = 2, model.hparams["hiddens"], num_steps // 2
    X_BT = (torch.arange(num_windows)[:, None] + torch.arange(num_steps)) % model.vocab_size
    inputs, cell = model.inputs(X_BT), copy.deepcopy(model.rnn).eval()  # dropout would change every pass

    def assert_close(ours: Tensor, theirs: Tensor) -> None:
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7 * float(theirs.abs().max()))

    outputs_TBH, state_BS = cell(inputs, None)
    assert outputs_TBH.shape == (num_steps, num_windows, hiddens)
    assert isinstance(state_BS, Tensor) and state_BS.dim() == 2 and len(state_BS) == num_windows
    other_TBH, _ = cell(torch.cat([inputs[:cut], inputs[cut:].roll(1, 1)]), None)
    assert_close(other_TBH[:cut], outputs_TBH[:cut])  # no output depends on a later input
    alone_T1H, _ = cell(inputs[:, :1], None)
    assert_close(alone_T1H, outputs_TBH[:, :1])  # nor on another window of the batch
    first_TBH, carried_BS = cell(inputs[:cut], None)
    second_TBH, last_BS = cell(inputs[cut:], carried_BS)
    assert_close(torch.cat([first_TBH, second_TBH]), outputs_TBH)  # two passes are one
    assert_close(last_BS, state_BS)


@pytest.mark.parametrize("cell", [*CELLS, "recurrent"])
def test_properties_of_each_cell(cell: str) -> None:
    check_cell(RNNLMScratch(28, hiddens=64, sigma=1.0, cell=cell))

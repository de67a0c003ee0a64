"""Cells: their settings, and the properties that training and evaluation rely on.

T time steps, B batch, H hidden units, S size of a state.
"""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from timemachine.cells import LSTMScratch
from timemachine.errors import SettingError
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.language_model import RNNLMScratch
from timemachine.rnn import CELLS, RNNScratch


class Named(LSTMScratch):
    """An LSTM with one of the RNN's settings."""

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, activation: str = "tanh") -> None:
        super().__init__(num_inputs, num_hiddens, sigma)
        self.activation = activation


class Noisy(LSTMScratch):
    """An LSTM with dropout in training, which draws random numbers."""

    def forward(self, inputs: Tensor, state_BS: Tensor | None = None) -> tuple[Tensor, Tensor]:
        outputs_TBH, last_BS = super().forward(inputs, state_BS)
        return nn.functional.dropout(outputs_TBH, 0.5, self.training), last_BS


class Recurrent(nn.Module):
    """An RNN as a submodule, so that no weight's name starts with W_x."""

    carries_state = True

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
        super().__init__()
        self.part = RNNScratch(num_inputs, num_hiddens, sigma)

    def forward(self, inputs: Tensor, state_BS: Tensor | None = None) -> Any:
        return self.changed(*self.part(inputs, state_BS if self.carries_state else None))

    def changed(self, outputs_TBH: Tensor, last_BS: Tensor) -> Any:
        """Overridden to break the contract of a cell."""
        return outputs_TBH, last_BS


def changing(change: Callable[[Tensor, Tensor], Any]) -> type[nn.Module]:
    """Return a Recurrent that changes its outputs (T, B, H) and its last state (B, H)."""
    return type("Changing", (Recurrent,), {"changed": lambda self, outputs_TBH, last_BS: change(outputs_TBH, last_BS)})


BROKEN: dict[str, type[nn.Module]] = {
    "both_directions": changing(lambda outputs, last: (outputs + outputs.flip(0), last)),
    "one_ahead": changing(lambda outputs, last: (outputs.roll(-1, 0), last)),
    "of_the_batch": changing(lambda outputs, last: (outputs + outputs.mean(1, keepdim=True), last)),
    "forgetful": type("Forgetful", (Recurrent,), {"carries_state": False}),
    "two_states": changing(lambda outputs, last: (outputs, (last, last))),
    "batch_first": changing(lambda outputs, last: (outputs.transpose(0, 1), last)),
}
SOUND = {"lstm": LSTMScratch, "named": Named, "recurrent": Recurrent, "noisy": Noisy}


@pytest.fixture(autouse=True)
def _cells(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, cell in (SOUND | BROKEN).items():
        monkeypatch.setitem(CELLS, name, cell)


def test_a_cell_gets_its_settings() -> None:
    assert RNNLMScratch(5, cell="named", activation="relu").rnn.activation == "relu"
    assert RNNLMScratch(5, cell="lstm", activation="tanh", backward="auto", input_lr_factor=4).input_lr_factor == 4
    assert len(RNNLMScratch(5, cell="recurrent", input="embedding", input_lr_factor=4).parameter_groups()) == 2


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


@pytest.mark.parametrize("vocab_size", [2, 28])
@pytest.mark.parametrize("sigma", [1e-3, 1.0])
@pytest.mark.parametrize("cell", sorted(CELLS.keys() | SOUND))
def test_properties_of_each_cell(cell: str, sigma: float, vocab_size: int) -> None:
    check_cell(RNNLMScratch(vocab_size, hiddens=64, sigma=sigma, cell=cell))


@pytest.mark.parametrize("vocab_size", [2, 28])
@pytest.mark.parametrize("sigma", [1e-4, 1.0])
@pytest.mark.parametrize("cell", BROKEN)
def test_broken_cells_are_recognised(cell: str, sigma: float, vocab_size: int) -> None:
    with pytest.raises(AssertionError):
        check_cell(RNNLMScratch(vocab_size, hiddens=32, sigma=sigma, cell=cell))

"""Custom cells, such as an LSTM: their settings and their contract."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.programs import call_program
from timemachine.cells import LSTMScratch
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.rnn import CELLS, RNNScratch
from timemachine.run.cell_check import check_model

SMALL = ["data=sample", "logger=csv", "trainer=cpu", "data.num_train=64", "data.num_val=64", "model.hiddens=3"]
SMALL += ["trainer.max_epochs=1"]


class Named(LSTMScratch):
    """An LSTM with one of the RNN's settings."""

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, activation: str = "tanh") -> None:
        super().__init__(num_inputs, num_hiddens, sigma)
        self.activation = activation


class Noisy(LSTMScratch):
    """An RNN with dropout in training, which draws random numbers."""

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
    ("typed", "named"),
    [
        ("model.cell=lstm model.activation=relu", "model.activation=relu"),
        ("model.cell=recurrent model.input_lr_factor=4", "model.input_lr_factor=4.0"),
        ("model.cell=lstm probes=[weights]", "probes=[weights]"),
        ("model.cell=lstm model.sigma_hh=0.2", "model.sigma_hh=0.2"),
        ("model.cell=lstm model.backward=bptt", "model.backward=bptt"),
        *((f"model.cell={name} hydra.run.dir=run", f"model.cell={name}") for name in BROKEN),
    ],
)
def test_what_a_cell_rejects(typed: str, named: str) -> None:
    """The error is one line, before training."""
    done = call_program("train.py", *SMALL, *typed.split())
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"error: {named}: ")
    assert not [*Path().rglob("metrics.csv")]


@pytest.mark.parametrize("vocab_size", [2, 28])
@pytest.mark.parametrize("cell", ["rnn", *SOUND])
def test_a_sound_cell_stays_unchanged(cell: str, vocab_size: int) -> None:
    for sigma in (1e-3, 1.0):
        model = RNNLMScratch(vocab_size, hiddens=64, sigma=sigma, cell=cell)
        before, random = {name: w.clone() for name, w in model.state_dict().items()}, torch.get_rng_state()
        check_model(model, 7)
        assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
        assert torch.equal(torch.get_rng_state(), random)
        assert model.rnn.training


@pytest.mark.parametrize("vocab_size", [2, 28])
@pytest.mark.parametrize("sigma", [1e-4, 1.0])
@pytest.mark.parametrize("cell", BROKEN)
def test_a_broken_cell_at_any_size(cell: str, sigma: float, vocab_size: int) -> None:
    with pytest.raises(SettingError, match=rf"^model\.cell={cell}: "):
        check_model(RNNLMScratch(vocab_size, hiddens=32, sigma=sigma, cell=cell), 7)

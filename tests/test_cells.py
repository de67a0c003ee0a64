"""Any cell of CELLS, a GRU and an LSTM beside the RNN: its gradients, the settings that it is given, its promises."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.cells import ADDED, GRU, LSTM, without_slope
from tests.support.programs import call_program
from timemachine import kernels
from timemachine.errors import SettingError
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.language_model import RNNLMScratch
from timemachine.rnn import ACTIVATIONS, CELLS, RNNScratch
from timemachine.run.cell_check import check_model

SMALL = ["data=sample", "logger=csv", "trainer=cpu", "data.num_train=64", "data.num_val=64", "model.hiddens=3"]
SMALL += ["trainer.max_epochs=1"]


class Named(GRU):
    """A GRU that names a setting of the RNN's."""

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, activation: str = "tanh") -> None:
        super().__init__(num_inputs, num_hiddens, sigma)
        self.activation = activation


class Noisy(GRU):
    """Dropout in training, which draws random numbers."""

    def forward(self, inputs: Tensor, state_BS: Tensor | None = None) -> tuple[Tensor, Tensor]:
        outputs_TBH, last_BS = super().forward(inputs, state_BS)
        return nn.functional.dropout(outputs_TBH, 0.5, self.training), last_BS


class Recurrent(nn.Module):
    """An RNN in a part of the cell, so that no weight's name begins with W_x. A subclass changes what it returns."""

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
        super().__init__()
        self.part = RNNScratch(num_inputs, num_hiddens, sigma)

    def forward(self, inputs: Tensor, state_BS: Tensor | None = None) -> Any:
        return self.changed(*self.part(inputs, state_BS))

    def changed(self, outputs_TBH: Tensor, last_BS: Tensor) -> Any:
        return outputs_TBH, last_BS


class Forgetful(Recurrent):
    def forward(self, inputs: Tensor, state_BS: Tensor | None = None) -> Any:
        return super().forward(inputs)


def changing(name: str, change: Callable[[Tensor, Tensor], Any]) -> type[nn.Module]:
    """A Recurrent that changes its outputs (T, B, H) and its last state (B, H)."""
    return type(name, (Recurrent,), {"changed": lambda self, outputs_TBH, last_BS: change(outputs_TBH, last_BS)})


BothDirections = changing("BothDirections", lambda outputs, last: (outputs + outputs.flip(0), last))
OneAhead = changing("OneAhead", lambda outputs, last: (outputs.roll(-1, 0), last))
BROKEN: dict[type[nn.Module], str] = {
    BothDirections: "its outputs change with later inputs",
    OneAhead: "its outputs change with later inputs",
    changing("OfTheBatch", lambda outputs, last: (outputs + outputs.mean(1, keepdim=True), last)): (
        "its outputs change with the other windows of a batch"
    ),
    Forgetful: "two passes with the state carried differ from one pass",
    changing("TwoStates", lambda outputs, last: (outputs, (last, last))): "its state is not one tensor",
    changing("BatchFirst", lambda outputs, last: (outputs.transpose(0, 1), last)): (
        r"its outputs are \(2, 32, 3\), not \(T, B, H\)"
    ),
}
SOUND = {"gru": GRU, "lstm": LSTM, "named": Named, "recurrent": Recurrent, "noisy": Noisy}


@pytest.fixture(autouse=True)
def _cells(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, cell in (SOUND | {cell.__name__: cell for cell in BROKEN}).items():
        monkeypatch.setitem(CELLS, name, cell)


@pytest.fixture
def _activations() -> Iterator[None]:
    with without_slope():
        yield


# --- Gradients ---

BACKWARDS = ("auto", *(["fused"] if kernels.is_compiled() else []), "bptt", "autograd")


@pytest.mark.parametrize(
    "network",
    [
        *({"activation": name, "backward": by} for name in ACTIVATIONS for by in BACKWARDS),
        *({"activation": name} for name in ADDED),
        *({"cell": cell, "input": input} for cell in ("gru", "lstm") for input in ("one_hot", "embedding")),
        {"input": "embedding"},
    ],
    ids=lambda network: "-".join(network.values()),
)
@pytest.mark.usefixtures("_activations")
def test_the_gradients_of_the_loss_are_those_of_finite_differences(network: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = FusedRNNLM(5, hiddens=3, sigma=0.7, **network).double()
    batch = torch.randint(5, (4, 6)), torch.randint(5, (4, 6))
    loss, _ = model.mean_nll(batch)
    parameters = list(model.parameters())
    with torch.no_grad():
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            for number, slope in zip(parameter.view(-1), gradient.reshape(-1), strict=True):
                ends = []
                for step in (1e-5, -1e-5):
                    number += step
                    logits_BTV, _ = model(batch[0])
                    ends.append(nn.functional.cross_entropy(logits_BTV.flatten(0, 1), batch[1].flatten()))
                    number -= step
                assert float(ends[0] - ends[1]) / 2e-5 == pytest.approx(float(slope), rel=1e-5, abs=1e-9)


# --- Settings ---


def test_a_cell_is_given_what_it_names() -> None:
    assert RNNLMScratch(5, cell="named", activation="relu").rnn.activation == "relu"
    assert RNNLMScratch(5, cell="gru", activation="tanh", backward="auto", input_lr_factor=4).input_lr_factor == 4
    assert len(RNNLMScratch(5, cell="recurrent", input="embedding", input_lr_factor=4).parameter_groups()) == 2


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("model.cell=gru model.activation=relu", "model.activation=relu: model.cell=gru does not read it; type it "),
        ("model.cell=recurrent model.input_lr_factor=4", "model.input_lr_factor=4.0: model.cell=recurrent has no "),
        ("model.cell=gru probes=[dynamics]", "probes=[dynamics]: dynamics measures model.cell=rnn alone; type "),
        ("model.cell=gru model.sigma_hh=0.2", "model.sigma_hh=0.2: model.cell=gru does not read it; type it without"),
        ("model.cell=gru model.backward=bptt", "model.backward=bptt: "),
        ("model.cell=gru exercise=one_hot_is_embedding", "probes=[weights]: weights measures "),
    ],
)
def test_it_is_refused_in_one_line_before_anything_is_written(typed: str, message: str) -> None:
    before = sorted(Path().iterdir())
    done = call_program("train.py", *SMALL, *typed.split())
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"error: {message}")
    assert sorted(Path().iterdir()) == before


# --- Promises ---


@pytest.mark.parametrize("cell", BROKEN, ids=lambda cell: cell.__name__)
def test_a_cell_that_breaks_its_promises_does_not_train(cell: type[nn.Module], tmp_path: Path) -> None:
    done = call_program("train.py", *SMALL, f"model.cell={cell.__name__}", f"hydra.run.dir={tmp_path}/run")
    line = f"error: model.cell={cell.__name__}: {BROKEN[cell]}.*; mend {cell.__name__}.*\n"
    assert done.returncode == 1 and re.fullmatch(line, done.stderr)
    assert not (tmp_path / "run/metrics.csv").exists()


@pytest.mark.parametrize("vocab_size", [2, 28])
@pytest.mark.parametrize("cell", ["rnn", *SOUND])
def test_a_cell_that_keeps_them_is_left_as_it_is(cell: str, vocab_size: int) -> None:
    for sigma in (1e-3, 1.0):
        model = RNNLMScratch(vocab_size, hiddens=64, sigma=sigma, cell=cell)
        before, random = {name: w.clone() for name, w in model.state_dict().items()}, torch.get_rng_state()
        check_model(model, 7)
        assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
        assert torch.equal(torch.get_rng_state(), random)
        assert model.rnn.training


@pytest.mark.parametrize("vocab_size", [2, 28])
@pytest.mark.parametrize("sigma", [1e-4, 1.0])
@pytest.mark.parametrize("cell", [BothDirections, OneAhead], ids=lambda cell: cell.__name__)
def test_reading_ahead_is_seen_at_any_size(cell: type[nn.Module], sigma: float, vocab_size: int) -> None:
    with pytest.raises(SettingError, match="change with later inputs"):
        check_model(RNNLMScratch(vocab_size, hiddens=32, sigma=sigma, cell=cell.__name__), 7)

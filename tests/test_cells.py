"""Any cell of CELLS, a GRU and an LSTM beside the RNN: its gradients, the settings that it is given, its promises."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.activations import ADDED, without_slope
from tests.support.cells import GRU, LSTM
from tests.support.programs import call_program
from timemachine.corpus import Corpus
from timemachine.errors import SettingError
from timemachine.kernels.activations import ACTIVATIONS
from timemachine.kernels.loss import mean_nll
from timemachine.language_model import RNNLMScratch
from timemachine.rnn import CELLS, RNNScratch
from timemachine.training.cell_check import check_model

SMALL = ["data=sample", "logger=csv", "trainer=cpu", "data.num_train=64", "data.num_val=64", "model.hiddens=3"]
SMALL += ["trainer.max_epochs=1"]


class Named(GRU):
    """A GRU that names a setting of the RNN's."""

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, activation: str = "tanh") -> None:
        super().__init__(num_inputs, num_hiddens, sigma)
        self.activation = activation


class Recurrent(nn.Module):
    """An RNN in a part of the cell, so that no weight's name begins with W_x."""

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
        super().__init__()
        self.forwards = RNNScratch(num_inputs, num_hiddens, sigma)

    def forward(self, inputs: Tensor, state_BS: Tensor | None = None) -> tuple[Tensor, Any]:
        outputs_TBH, last_BS = self.forwards(inputs, state_BS)
        return outputs_TBH, last_BS


class BothDirections(Recurrent):
    def forward(self, inputs: Tensor, state_BS: Tensor | None = None) -> tuple[Tensor, Any]:
        outputs_TBH, last_BS = super().forward(inputs, state_BS)
        return outputs_TBH + super().forward(inputs.flip(0))[0].flip(0), last_BS


class OneAhead(Recurrent):
    def forward(self, inputs: Tensor, state_BS: Tensor | None = None) -> tuple[Tensor, Any]:
        outputs_TBH, last_BS = super().forward(inputs, state_BS)
        return outputs_TBH.roll(-1, 0), last_BS


class FarAhead(Recurrent):
    """At the end of a window its outputs are those of the window's beginning, and those of it, of 5 steps on."""

    def forward(self, inputs: Tensor, state_BS: Tensor | None = None) -> tuple[Tensor, Any]:
        outputs_TBH, last_BS = super().forward(inputs, state_BS)
        return outputs_TBH.roll(-5, 0), last_BS


class OfTheBatch(Recurrent):
    def forward(self, inputs: Tensor, state_BS: Tensor | None = None) -> tuple[Tensor, Any]:
        outputs_TBH, last_BS = super().forward(inputs, state_BS)
        return outputs_TBH + outputs_TBH.mean(1, keepdim=True), last_BS


class Forgetful(Recurrent):
    def forward(self, inputs: Tensor, state_BS: Tensor | None = None) -> tuple[Tensor, Any]:
        return super().forward(inputs)


class TwoStates(Recurrent):
    def forward(self, inputs: Tensor, state_BS: Tensor | None = None) -> tuple[Tensor, Any]:
        outputs_TBH, last_BS = super().forward(inputs)
        return outputs_TBH, (last_BS, last_BS)


class BatchFirst(Recurrent):
    def forward(self, inputs: Tensor, state_BS: Tensor | None = None) -> tuple[Tensor, Any]:
        outputs_TBH, last_BS = super().forward(inputs, state_BS)
        return outputs_TBH.transpose(0, 1), last_BS


class Noisy(GRU):
    """Dropout in training, which draws random numbers."""

    def forward(self, inputs: Tensor, state_BS: Tensor | None = None) -> tuple[Tensor, Tensor]:
        outputs_TBH, last_BS = super().forward(inputs, state_BS)
        return nn.functional.dropout(outputs_TBH, 0.5, self.training), last_BS


BROKEN: dict[type[nn.Module], str] = {
    BothDirections: "its outputs change with later inputs",
    OneAhead: "its outputs change with later inputs",
    FarAhead: "its outputs change with later inputs",
    OfTheBatch: "its outputs change with the other windows of a batch",
    Forgetful: "two passes with the state carried differ from one pass",
    TwoStates: "its state is not one tensor",
    BatchFirst: r"its outputs are \(2, 32, 3\), not \(T, B, H\)",
}
SOUND = {"gru": GRU, "lstm": LSTM, "named": Named, "recurrent": Recurrent, "noisy": Noisy}


@pytest.fixture(autouse=True)
def _cells(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, cell in (SOUND | {cell.__name__: cell for cell in BROKEN}).items():
        monkeypatch.setitem(CELLS, name, cell)


# --- Gradients ---


@pytest.mark.parametrize("activation", [*ACTIVATIONS, *ADDED])
@pytest.mark.parametrize("backward", ["auto", "fused", "bptt", "autograd"])
def test_the_gradients_of_the_loss_are_those_of_finite_differences(activation: str, backward: str) -> None:
    with without_slope():
        if backward in ("fused", "bptt") and activation in ADDED:
            return  # refused, which tests/kernels/test_backward.py tries
        assert_gradients_are_slopes(activation=activation, backward=backward)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("input", ["one_hot", "embedding"])
def test_the_gradients_of_a_cell_are_those_of_finite_differences(cell: str, input: str) -> None:
    assert set(CELLS) - set(SOUND) - {broken.__name__ for broken in BROKEN} <= {"rnn"}  # all that ship are tried
    assert_gradients_are_slopes(cell=cell, input=input)


def assert_gradients_are_slopes(**network: Any) -> None:
    torch.manual_seed(0)
    model = RNNLMScratch(5, hiddens=3, sigma=0.7, **network).double()
    batch = torch.randint(5, (4, 6)), torch.randint(5, (4, 6))
    loss, _ = mean_nll(model, batch, batch[1].numel())
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


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"cell": "gru", "activation": "relu"}, "model.activation=relu: model.cell=gru does not read it; type it with"),
        ({"cell": "gru", "backward": "bptt"}, "model.backward=bptt: model.cell=gru does not read it; type it without"),
        ({"cell": "named", "backward": "bptt"}, "model.backward=bptt: model.cell=named does not read it; type it wit"),
        (
            {"cell": "recurrent", "input_lr_factor": 4},
            "model.input_lr_factor=4: model.cell=recurrent has no weight whose name begins with W_x; type for example",
        ),
        ({"cell": "none"}, "model.cell=none: must be one of rnn, "),
    ],
)
def test_a_setting_that_a_cell_does_not_read_is_refused(network: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError) as refused:
        RNNLMScratch(5, **network)
    assert str(refused.value).startswith(message)


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
        ("model.cell=gru probes=[stream,weights]", "probes=[stream,weights]: weights measures model.cell=rnn alone; "),
        ("model.cell=gru exercise=one_hot_is_embedding", "exercise=one_hot_is_embedding: probes=[weights]: weights "),
        ("model.cell=gru exercise=relu probes=[]", "exercise=relu: model.activation=relu: model.cell=gru does not "),
        ("model.cell=gru exercise=how_low", "exercise=how_low: model.activation=relu: model.cell=gru does not read "),
        ("-m model.cell=rnn,gru model.activation=tanh,relu", "model.activation=relu: model.cell=gru does not read "),
    ],
)
def test_it_is_refused_in_one_line_before_anything_is_written(
    typed: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(Path().iterdir())
    done = call_program("train.py", *SMALL, *typed.split())
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"error: {message}")
    assert sorted(Path().iterdir()) == before


def test_a_run_of_another_cell_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert call_program("train.py", *SMALL, "model.cell=gru", f"hydra.run.dir={folder}").returncode == 0
    done = call_program("train.py", f"resume={folder}", "trainer.max_epochs=2")
    assert done.returncode == 0, done.stderr
    assert "kernel" not in done.stdout


# --- Promises ---


@pytest.mark.parametrize("cell", BROKEN, ids=lambda cell: cell.__name__)
def test_a_cell_that_breaks_its_promises_does_not_train(cell: type[nn.Module], sample: Corpus, tmp_path: Path) -> None:
    done = call_program("train.py", *SMALL, f"model.cell={cell.__name__}", f"hydra.run.dir={tmp_path}/run")
    assert done.returncode == 1
    with pytest.raises(SettingError, match=f"^model.cell={cell.__name__}: {BROKEN[cell]}.*; mend {cell.__name__}") as e:
        check_model(RNNLMScratch(28, hiddens=3, cell=cell.__name__), 32)
    assert done.stderr == f"error: {e.value}\n"
    assert not (tmp_path / "run/metrics.csv").exists()


@pytest.mark.parametrize("input", ["one_hot", "embedding"])
@pytest.mark.parametrize("vocab_size", [2, 3, 28])
@pytest.mark.parametrize("cell", ["rnn", *SOUND])
def test_a_cell_that_keeps_them_is_left_as_it_is(cell: str, vocab_size: int, input: str) -> None:
    for sigma in (1e-3, 1.0):
        model = RNNLMScratch(vocab_size, hiddens=64, sigma=sigma, cell=cell, input=input)
        before, random = {name: w.clone() for name, w in model.state_dict().items()}, torch.get_rng_state()
        check_model(model, 7)
        assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
        assert torch.equal(torch.get_rng_state(), random)
        assert model.rnn.training


@pytest.mark.parametrize("vocab_size", [2, 3, 28])
@pytest.mark.parametrize("sigma", [1e-4, 0.01, 1.0])
@pytest.mark.parametrize("cell", [BothDirections, OneAhead], ids=lambda cell: cell.__name__)
def test_reading_ahead_is_seen_at_any_size(cell: type[nn.Module], sigma: float, vocab_size: int) -> None:
    with pytest.raises(SettingError, match="change with later inputs"):
        check_model(RNNLMScratch(vocab_size, hiddens=32, sigma=sigma, cell=cell.__name__), 7)

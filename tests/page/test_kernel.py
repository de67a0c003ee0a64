"""page/kernel.wasm: built from the current sources; gradients and updates against the lesson, in float64.

T time steps, B windows, V vocabulary, H hidden units.
"""

import copy
import ctypes
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import wasmtime
from torch import Tensor

from tests.support.rounding import rounding
from timemachine.kernels import FUSED_CELLS
from timemachine.kernels.cells import fused_cell, recurrent_weights
from timemachine.language_model import RNNLMScratch
from timemachine.page import build

T, B, V, H = 13, 37, 28, 33
NETWORKS: dict[str, dict[str, Any]] = {
    "tanh": {},
    "relu": {"activation": "relu"},
    "two layers": {"cell": "deep_rnn"},
    "three layers of relu": {"cell": "deep_rnn", "layers": 3, "activation": "relu"},
    "gru": {"cell": "gru"},
    "lstm": {"cell": "lstm"},
}
every_network = pytest.mark.parametrize("network", NETWORKS)


class Kernel:
    """The kernel in wasmtime. `start` gives it the weights of a model, and `read` the windows of a batch."""

    def __init__(self, engine: wasmtime.Engine, module: wasmtime.Module) -> None:
        self.store = wasmtime.Store(engine)
        self.exports = wasmtime.Instance(self.store, module, []).exports(self.store)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function: Any = self.exports[name]
        return lambda *numbers: function(self.store, *numbers)

    def start(self, model: RNNLMScratch) -> None:
        weights_N = flat(model)
        layers = len(recurrent_weights(model.rnn, None)[3])
        self.address = self.setup(FUSED_CELLS.index(str(fused_cell(model.rnn))), layers, T, V, H)
        assert self.count() == len(weights_N)
        self.numbers(self.address).copy_(weights_N)

    def numbers(self, address: int) -> Tensor:
        """Return the weights or the gradients, float32, as a view of the kernel's memory until it grows."""
        return self.view(address, self.count(), ctypes.c_float)

    def read(self, windows_BT: Tensor) -> None:
        self.view(self.reserve(len(windows_BT)), windows_BT.numel(), ctypes.c_int32).copy_(windows_BT.flatten())

    def view(self, address: int, length: int, kind: Any) -> Tensor:
        memory: Any = self.exports["memory"]
        begin = ctypes.addressof(memory.data_ptr(self.store).contents) + address
        return torch.frombuffer((kind * length).from_address(begin), dtype=DTYPES[kind])


DTYPES = {ctypes.c_float: torch.float32, ctypes.c_int32: torch.int32}


@pytest.fixture(scope="module")
def engine() -> wasmtime.Engine:
    return wasmtime.Engine()


@pytest.fixture(scope="module")
def module(engine: wasmtime.Engine) -> wasmtime.Module:
    return wasmtime.Module(engine, build.KERNEL.read_bytes())


@pytest.fixture
def kernel(engine: wasmtime.Engine, module: wasmtime.Module) -> Kernel:
    return Kernel(engine, module)


def flat(model: RNNLMScratch) -> Tensor:
    """Return all weights in the kernel's order."""
    weights = [*recurrent_weights(model.rnn, None), model.W_hq, model.b_q]
    return torch.cat([weight.detach().flatten() for weight in weights])


def flat_gradients(model: RNNLMScratch) -> Tensor:
    gradients = copy.deepcopy(model)
    for gradient, parameter in zip(gradients.parameters(), model.parameters(), strict=True):
        assert parameter.grad is not None
        gradient.data = parameter.grad
    return flat(gradients)


def random_model(network: str) -> RNNLMScratch:
    """Return a model in float64 whose weights and biases are float32 numbers from N(0, 0.15²)."""
    torch.manual_seed(0)
    model = RNNLMScratch(V, H, **NETWORKS[network])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.15)
    return model.double()


def random_windows(number: int, seed: int = 0) -> Tensor:
    return torch.randint(V, (number, T + 1), generator=torch.Generator().manual_seed(seed))


def mean_nll(model: RNNLMScratch, windows_BT: Tensor) -> Tensor:
    return model.nll((windows_BT[:, :-1], windows_BT[:, 1:])).mean()


def test_kernel_is_up_to_date(module: wasmtime.Module) -> None:
    assert f"source {build.source_hash()}".encode() in build.KERNEL.read_bytes(), "run make page-kernel"
    assert not module.imports
    assert build.KERNEL.stat().st_size <= 60_000


@every_network
@pytest.mark.parametrize("number", [1, B, 300])
def test_gradients_against_autograd(network: str, number: int, kernel: Kernel) -> None:
    model, windows_BT = random_model(network), random_windows(number)
    kernel.start(model)
    kernel.read(random_windows(70))  # a batch of another size before
    kernel.loss(1)
    kernel.read(windows_BT)
    loss = mean_nll(model, windows_BT)
    loss.backward()
    gradients = flat_gradients(model)
    # Errors cancel in long sums: √n of n terms, of T steps with sums over H and V in each.
    bound = rounding(T * math.sqrt(2 * H + V))
    assert kernel.loss(1) == pytest.approx(loss.item(), rel=bound)
    found = kernel.numbers(kernel.gradients()).double()
    assert (found - gradients).norm() <= bound * gradients.norm()
    assert kernel.loss(0) == pytest.approx(loss.item(), rel=bound)


@every_network
def test_count_of_recalled_symbols(network: str, kernel: Kernel) -> None:
    model, windows_BT = random_model(network), random_windows(300)
    kernel.start(model)
    kernel.read(windows_BT)
    kernel.loss(0)
    X_BT, Y_BT = windows_BT[:, :-1], windows_BT[:, 1:]
    is_right_BT = model(X_BT)[0].argmax(-1) == Y_BT
    assert kernel.recalled(7, 3) == is_right_BT[:, 3:][X_BT[:, 3:] == 7].sum().item()


def test_gradient_that_is_not_finite_changes_no_weight(kernel: Kernel) -> None:
    model = random_model("relu")
    with torch.no_grad():
        model.rnn.W_hh.mul_(1e6)
    kernel.start(model)
    kernel.read(random_windows(B))
    kernel.loss(1)
    assert not math.isfinite(kernel.update(1.0, 1.0, 1.0, False))
    assert kernel.numbers(kernel.address).equal(flat(model).float())

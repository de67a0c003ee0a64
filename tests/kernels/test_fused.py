"""The fused kernel compared with autograd of a readable loop, for each instruction set of this processor.

T time steps, B batch, D inputs, H hidden units, V vocabulary.
"""

import copy
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.support.rounding import rounding
from timemachine import kernels
from timemachine.cells import GRUScratch, LSTMScratch, StackedRNNScratch
from timemachine.kernels import fused
from timemachine.kernels.cells import fused_cell, recurrent_weights
from timemachine.kernels.fused import Weights
from timemachine.rnn import RNNScratch

pytestmark = pytest.mark.skipif(not kernels.is_compiled(), reason=kernels.NOT_COMPILED)
library = fused._library


@pytest.fixture(params=fused.instruction_sets() or [""])
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test once for each instruction set of this processor."""
    name: str = request.param
    monkeypatch.setattr(fused, "_library", lambda: library(name))
    return name


@dataclass
class Problem:
    """A cell with its output layer, the vectors that it reads for the symbols (None: one-hot), and a batch."""

    rnn: nn.Module
    vectors: Tensor | None  # (V, D)
    W_hq: Tensor
    b_q: Tensor
    X_TB: Tensor
    Y_TB: Tensor

    def to(self, dtype: torch.dtype) -> "Problem":
        def cast(x: Tensor) -> Tensor:
            return x.detach().to(dtype).requires_grad_()

        vectors_VD = None if self.vectors is None else cast(self.vectors)
        rnn = copy.deepcopy(self.rnn).to(dtype)
        return replace(self, rnn=rnn, vectors=vectors_VD, W_hq=cast(self.W_hq), b_q=cast(self.b_q))

    @property
    def leaves(self) -> list[Tensor]:
        of_inputs = [] if self.vectors is None else [self.vectors]
        return [*self.rnn.parameters(), self.W_hq, self.b_q, *of_inputs]

    @property
    def weights(self) -> Weights:
        return Weights(*recurrent_weights(self.rnn, self.vectors), self.W_hq, self.b_q)

    def fused(self) -> tuple[Tensor, Tensor]:
        return fused.loss(self.X_TB, self.weights, self.Y_TB, str(fused_cell(self.rnn)))

    def readable(self) -> tuple[Tensor, Tensor]:
        D = self.weights.W_x.shape[0]
        one_hot = F.one_hot(self.X_TB, D).to(self.W_hq.dtype)
        H_TBH, _ = self.rnn(one_hot if self.vectors is None else one_hot @ self.vectors)
        logits_TBV = H_TBH @ self.W_hq + self.b_q
        nll_TB = F.cross_entropy(logits_TBV.movedim(-1, 1), self.Y_TB, reduction="none")
        return nll_TB.mean(), nll_TB


def losses_and_gradients(p: Problem, by_readable: bool = False) -> list[Tensor]:
    loss, nll_TB = p.readable() if by_readable else p.fused()
    return [loss, nll_TB, *torch.autograd.grad(3 * loss, p.leaves)]


Cell = Callable[[int, int], nn.Module]
CELLS: dict[str, Cell] = {
    "tanh": RNNScratch,
    "relu": partial(RNNScratch, activation="relu"),
    "gru": GRUScratch,
    "lstm": LSTMScratch,
    "two layers": StackedRNNScratch,
    "three layers of relu": partial(StackedRNNScratch, activation="relu", layers=3),
}
every_cell = pytest.mark.parametrize("cell", CELLS)
Sizes = tuple[int, int, int, int, int]


def problem(sizes: Sizes, sigma: float = 0.3, embedding: bool = False, cell: str = "tanh", seed: int = 0) -> Problem:
    """Return a problem with weights and biases from N(0, sigma²). Indices are strided views, as in a loader."""
    T, B, D, H, V = sizes
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return sigma * torch.randn(shape, generator=generator, dtype=torch.float64)

    def indices(below: int) -> Tensor:
        return torch.randint(below, (B, T + 1), generator=generator)[:, 1:].T

    rnn, vectors_VD = CELLS[cell](3 if embedding else D, H).double(), normal(D, 3) if embedding else None
    for parameter in rnn.parameters():
        parameter.data = normal(*parameter.shape)
    return Problem(rnn, vectors_VD, normal(H, V), normal(V), indices(D), indices(V)).to(torch.float64)


sizes = st.tuples(st.integers(1, 9), st.integers(1, 70), st.integers(1, 40), st.integers(1, 70), st.integers(1, 40))
sigmas = st.sampled_from([0.001, 0.01, 0.1, 0.2])


@settings(max_examples=50)
@given(sizes, sigmas, st.booleans(), st.sampled_from([*CELLS]), st.integers(0, 2**32))
def check_any_size(sizes: Sizes, sigma: float, embedding: bool, cell: str, seed: int) -> None:
    single = problem(sizes, sigma, embedding, cell, seed).to(torch.float32)
    exact = single.to(torch.float64)
    reference = losses_and_gradients(exact, by_readable=True)
    torch.testing.assert_close(losses_and_gradients(exact), reference, rtol=1e-10, atol=1e-10)
    if "relu" not in cell:  # rounding may move an input of relu across 0
        # Terms of a sum are at most about 1. A gradient may almost cancel.
        bound = 3 * rounding(sizes[0] * sum(sizes[2:]))
        found = [number.double() for number in losses_and_gradients(single)]
        torch.testing.assert_close(found, reference, rtol=bound, atol=bound)


def test_any_size_against_autograd(instruction_set: str) -> None:
    check_any_size()


@every_cell
@pytest.mark.parametrize("sizes", [(33, 300, 28, 32, 28), (2, 5, 3, 130, 256), (150, 2, 5, 33, 17)])
def test_several_tiles_groups_and_chunks(sizes: Sizes, cell: str, instruction_set: str) -> None:
    exact = problem(sizes, sigma=0.1, cell=cell)
    ours, reference = losses_and_gradients(exact), losses_and_gradients(exact, by_readable=True)
    torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-12)


@every_cell
@pytest.mark.parametrize(("T", "B", "H", "has_openmp"), [(5, 37, 33, False), (3, 300, 66, True)])
def test_threads_and_forward_alone(
    T: int, B: int, H: int, has_openmp: bool, cell: str, instruction_set: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = problem((T, B, 28, H, 28), 0.1, cell=cell).to(torch.float32)
    alone = losses_and_gradients(p)
    with torch.no_grad():
        assert all(map(torch.equal, p.fused(), alone))
    if not has_openmp:
        without = fused._library()._replace(parallel=None)
        monkeypatch.setattr(fused, "_library", lambda: without)
    for threads in (2, 3, 4):
        torch.set_num_threads(threads)
        assert all(map(torch.equal, losses_and_gradients(p), alone))


def mapped(function: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
    padded = np.ones(-(-x.size // 16) * 16, np.float32)
    padded[: x.size] = x
    y, number = np.empty_like(padded), ["tanh", "exp", "log", "sigmoid"].index(function)
    fused._library().of_dtype[torch.float32].map(number, y.size, padded.ctypes.data, y.ctypes.data)
    return y[: x.size]


def grid(low: float, high: float, n: int = 100_000) -> NDArray[np.float32]:
    """Return float32 numbers, the same count for each power of two."""
    first, last = np.array([low, high], np.float32).view(np.int32).tolist()
    return np.unique(np.linspace(first, last, n).astype(np.int32)).view(np.float32)


def ulps(y: NDArray[np.float32], exact: NDArray[np.float64]) -> float:
    return float((np.abs(y - exact) / np.spacing(np.abs(exact).astype(np.float32))).max())


def test_functions_within_4_ulp(instruction_set: str) -> None:
    x = grid(1e-37, 50)
    assert ulps(mapped("tanh", x), np.tanh(x.astype(np.float64))) < 3
    assert np.array_equal(mapped("tanh", -x), -mapped("tanh", x))
    assert mapped("tanh", x).max() == 1
    x = grid(1e-37, 80)
    assert ulps(mapped("exp", -x), np.exp(-x.astype(np.float64))) < 3
    x = np.concatenate([-grid(1e-37, 80), grid(1e-37, 80)])
    assert ulps(mapped("sigmoid", x), 1 / (1 + np.exp(-x.astype(np.float64)))) < 4
    x = grid(1, 256)[1:]
    assert ulps(mapped("log", x), np.log(x.astype(np.float64))) < 3


@every_cell
def test_weights_that_are_not_numbers(cell: str, instruction_set: str) -> None:
    for number in range(len(problem((6, 20, 9, 17, 9), cell=cell).leaves)):
        p = problem((6, 20, 9, 17, 9), cell=cell).to(torch.float32)
        with torch.no_grad():
            p.leaves[number].view(-1)[3] = torch.nan
        assert losses_and_gradients(p)[0].isnan()


@pytest.mark.parametrize("which", ["X_TB", "Y_TB"])
def test_index_out_of_range(which: str, instruction_set: str) -> None:
    p = problem((3, 4, 9, 5, 9))
    for wrong in (-1, 9, 2**40):
        changed = getattr(p, which).clone()
        changed[1, 2] = wrong
        with pytest.raises(IndexError):
            replace(p, **{which: changed}).fused()


def test_invalid_arguments() -> None:
    good = problem((3, 4, 9, 5, 9), cell="two layers")
    arguments: dict[str, Any] = {"X_TB": good.X_TB, "weights": good.weights, "Y_TB": good.Y_TB, "cell": "tanh"}
    wrong: list[dict[str, Any]] = [
        {"Y_TB": good.Y_TB[:2]},
        {"Y_TB": good.Y_TB.int()},
        {"X_TB": torch.zeros(3, 4, 9, dtype=torch.float64)},
        {"cell": "sigmoid"},
        {"cell": "gru"},
        {"weights": Weights(*(weight.half() for weight in good.weights))},
    ]
    for name in Weights._fields[1:]:  # the first weight has the number of symbols
        wrong.append({"weights": good.weights._replace(**{name: getattr(good.weights, name)[:-1]})})
    for change in wrong:
        with pytest.raises(RuntimeError, match=r"expected a tensor|does not support"):
            fused.loss(**(arguments | change))


def test_only_the_loss_is_differentiable() -> None:
    p = problem((3, 4, 9, 5, 9))
    loss, nll_TB = p.fused()
    assert not nll_TB.requires_grad
    with pytest.raises(RuntimeError, match="backward='autograd'"):
        torch.autograd.grad(loss, p.leaves, create_graph=True)


def test_library_of_another_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_compiled = kernels.is_compiled.__wrapped__  # the function without its cache
    for name in ("SOURCE", "LIBRARY"):
        monkeypatch.setattr(kernels, name, Path(shutil.copy(getattr(kernels, name), tmp_path)))
    assert is_compiled()
    kernels.SOURCE.write_text(kernels.SOURCE.read_text() + "// one comment more\n")
    assert not is_compiled()
    kernels.LIBRARY.unlink()
    assert not is_compiled()

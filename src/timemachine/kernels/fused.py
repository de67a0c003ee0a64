"""The recurrence with its loss and all gradients in one call of C++: the equations of `bptt`, in `fused.cpp`.

T time steps, B batch, D inputs (V with one-hot inputs), H hidden units, V vocabulary.

The loss is a mean, so the gradient that reaches it is known, up to a factor, before it is computed: the forward pass
computes the gradients as well, tile by tile of windows, while their states are in the cache. The result has the same
bits with any number of threads. `available` says whether the library is there: `pip install` and `build` compile it.
"""

import ctypes
import functools
import os
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from timemachine.kernels import buffers, build
from timemachine.kernels.bptt import Weights

DTYPES = (torch.float32, torch.float64)


class _Arguments(ctypes.Structure):
    """`Arguments` of fused.cpp."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("T", "B", "D", "H", "V")),
        *((name, ctypes.c_int64) for name in ("is_dense", "is_relu", "wants_gradients", "threads")),
        ("scale", ctypes.c_double),
        *(("X", ctypes.c_void_p), ("X_t", ctypes.c_int64), ("X_b", ctypes.c_int64)),
        *(("Y", ctypes.c_void_p), ("Y_t", ctypes.c_int64), ("Y_b", ctypes.c_int64)),
        *((name, ctypes.c_void_p) for name in ("W_xh", "W_hh", "b_h", "W_hq", "b_q", "H_0")),
        *((name, ctypes.c_void_p) for name in ("loss", "nll_TB", "states_TBH", "H_T")),
        *((name, ctypes.c_void_p) for name in ("dX", "dW_xh", "dW_hh", "db_h", "dW_hq", "db_q", "dH_0")),
        *((name, ctypes.c_int64) for name in ("chunks", "next_chunk", "next_thread", "out_of_range")),
        ("memory", ctypes.c_void_p),
    )


_Call = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Arguments))


class _Kernel(ctypes.Structure):
    """`Kernel` of fused.cpp: the functions for one type of numbers."""

    _fields_ = (
        ("bytes", ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.POINTER(_Arguments))),
        *(("pack", _Call), ("work", _Call), ("finish", _Call)),
        ("map", ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)),
    )


def available() -> str | None:
    """The instruction set that is used: avx512, avx2, or baseline for any other processor; None without a library.

    A library that was not built from the source beside it is not used: `python -m timemachine.kernels.build` builds it.
    """
    library = _library()
    return library.instruction_set if library else None


def knows(weight: Tensor) -> bool:
    """Whether the kernel computes with such weights: float32 or float64, on the CPU."""
    return weight.device.type == "cpu" and weight.dtype in DTYPES


def loss(
    inputs: Tensor,
    weights: Weights,
    Y_TB: Tensor,
    H_BH: Tensor | None = None,
    activation: str = "tanh",
    divisor: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of the targets' negative log-likelihoods over `divisor`, T·B if None; each of them, and the last state.

    Only the first, 0-dimensional, has gradients. The others are the `nll_TB` (T, B), in nats, and the states (B, H)
    after the last step. The arguments are those of `bptt.recurrence_nll`: `inputs`, indices (T, B) that stand for
    one-hot vectors, or vectors (T, B, D), targets `Y_TB`, the state before the first step `H_BH` (B, H), zero if None;
    `activation` is tanh or relu. All on the CPU, the weights float32 or float64; indices are int64 and may be views
    with any strides. Raises IndexError for an index out of range, RuntimeError without a library, for other dtypes, and
    when differentiated twice.
    """
    arguments = _cast(inputs, weights[0]), *weights, Y_TB, _cast(H_BH, weights[0]), activation, divisor
    results: tuple[Tensor, Tensor, Tensor] = _Loss.apply(*arguments)  # type: ignore[no-untyped-call]
    return results


@torch.no_grad()
def nll(
    inputs: Tensor, weights: Weights, Y_TB: Tensor, H_BH: Tensor | None = None, activation: str = "tanh"
) -> tuple[Tensor, Tensor]:
    """`loss`'s negative log-likelihoods (T, B) and last state (B, H), without gradients and in half of the time."""
    W_xh = weights[0]
    inputs, H_BH = _cast(inputs, W_xh), _cast(H_BH, W_xh)
    nll_TB, H_T = _empty(W_xh, Y_TB.shape, (Y_TB.shape[1], W_xh.shape[1]))
    _run(inputs, weights, Y_TB, H_BH, activation, (None, nll_TB, None, H_T))
    return nll_TB, H_T


@torch.no_grad()
def recurrence(
    inputs: Tensor, W_xh: Tensor, W_hh: Tensor, b_h: Tensor, H_BH: Tensor | None = None, activation: str = "tanh"
) -> tuple[Tensor, Tensor]:
    """`bptt.recurrence` without gradients: all hidden states (T, B, H) and the last one (B, H)."""
    inputs, H_BH = _cast(inputs, W_xh), _cast(H_BH, W_xh)
    (T, B), H = inputs.shape[:2], W_hh.shape[0]
    H_TBH, H_T = _empty(W_xh, (T, B, H), (B, H))
    _run(inputs, (W_xh, W_hh, b_h), None, H_BH, activation, (None, None, H_TBH, H_T))
    return H_TBH, H_T


def _cast(x: Any, weight: Tensor) -> Any:
    return x.to(weight.dtype) if x is not None and x.is_floating_point() else x


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
        *weights, Y_TB, H_BH, activation, divisor = others
        W_xh, needs = weights[0], ctx.needs_input_grad
        loss, nll_TB, H_T = _empty(W_xh, (), Y_TB.shape, (Y_TB.shape[1], W_xh.shape[1]))
        gradients: list[Tensor | None] = [None] * 7
        if any(needs):
            gradients[1:6] = map(_like, weights)
            if needs[0]:
                gradients[0] = _like(inputs)
            if H_BH is not None and needs[7]:
                gradients[6] = _like(H_BH)
        scale = 1 / (divisor or max(Y_TB.numel(), 1))
        _run(inputs, weights, Y_TB, H_BH, activation, (loss, nll_TB, None, H_T), gradients, scale)
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(nll_TB, H_T)
        ctx.set_materialize_grads(False)
        return loss, nll_TB, H_T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if g is None:
            return (None,) * 10
        factor = g.item()
        *gradients, dH_BH = (x if x is None or factor == 1 else x * factor for x in ctx.saved_tensors)
        return *gradients, None, dH_BH, None, None


def _empty(like: Tensor, *shapes: Sequence[int]) -> list[Tensor]:
    return [like.new_empty(shape) for shape in shapes]


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _run(
    inputs: Tensor,
    weights: Sequence[Tensor],
    Y_TB: Tensor | None,
    H_BH: Tensor | None,
    activation: str,
    outputs: tuple[Tensor | None, Tensor | None, Tensor | None, Tensor],
    gradients: Sequence[Tensor | None] = (None,) * 7,
    scale: float = 1.0,
) -> None:
    """Fill `outputs`, which are loss, nll_TB, states_TBH and H_T, and the `gradients` of X, the weights and H_0."""
    library = _library()
    if library is None:
        raise RuntimeError("there is no library of the fused kernel: type python -m timemachine.kernels.build")
    _check(inputs, weights, Y_TB, H_BH, activation)
    W_xh, is_dense = weights[0], inputs.is_floating_point()
    if is_dense and inputs.stride(2) != 1:
        inputs = inputs.contiguous()
    read = [None if x is None else x.contiguous() for x in (*weights, *(None,) * (5 - len(weights)), H_BH)]
    arguments = _Arguments(
        *(*inputs.shape[:2], *W_xh.shape, 0 if Y_TB is None else weights[4].shape[0]),
        *(is_dense, activation == "relu", gradients[1] is not None, torch.get_num_threads(), scale),
        *(inputs.data_ptr(), inputs.stride(0), inputs.stride(1)),
        *((None, 0, 0) if Y_TB is None else (Y_TB.data_ptr(), Y_TB.stride(0), Y_TB.stride(1))),
        *(None if x is None else x.data_ptr() for x in (*read, *outputs, *gradients)),
    )
    kernel = library.kernels[W_xh.dtype]
    memory = buffers.empty((kernel.bytes(arguments) // W_xh.element_size(),), W_xh)
    arguments.memory = memory.data_ptr()
    kernel.pack(arguments)
    _in_threads(library, kernel.work, arguments)
    kernel.finish(arguments)
    if arguments.out_of_range:
        raise IndexError("an index of the fused kernel is out of range")


def _in_threads(library: "_Library", work: Any, arguments: _Arguments) -> None:
    """Call `work` in as many threads as torch has, in torch's own if they are to be had.

    After its own work they wait for more by spinning, and other threads would have to share their cores.
    """
    threads = min(arguments.threads, arguments.chunks)
    if threads > 1 and library.parallel and os.getpid() == library.process:
        library.parallel(work, arguments, threads, 0)
        return
    others = [threading.Thread(target=work, args=(arguments,)) for _ in range(threads - 1)]
    for thread in others:
        thread.start()
    work(arguments)
    for thread in others:
        thread.join()


def _check(
    inputs: Tensor, weights: Sequence[Tensor], Y_TB: Tensor | None, H_BH: Tensor | None, activation: str
) -> None:
    """The library reads memory, so whatever does not fit ends here. Raises RuntimeError."""
    W_xh = weights[0]
    (D, H), (T, B) = W_xh.shape, inputs.shape[:2]
    is_dense = inputs.is_floating_point()
    expected = [(inputs, (T, B, D) if is_dense else (T, B)), (weights[1], (H, H)), (weights[2], (H,))]
    if Y_TB is not None:
        V = weights[4].shape[0]
        expected += [(weights[3], (H, V)), (weights[4], (V,)), (Y_TB, (T, B))]
    if H_BH is not None:
        expected.append((H_BH, (B, H)))
    for x, shape in expected:
        dtype = torch.int64 if x is Y_TB or (x is inputs and not is_dense) else W_xh.dtype
        if x.shape != shape or x.dtype != dtype or x.device.type != "cpu":
            raise RuntimeError(f"{tuple(x.shape)} {x.dtype} on {x.device} instead of {shape} {dtype} on the CPU")
    if W_xh.dtype not in DTYPES or activation not in ("tanh", "relu"):
        raise RuntimeError(f"the fused kernel has no {activation} of {W_xh.dtype}")


class _Library(NamedTuple):
    instruction_set: str
    kernels: dict[torch.dtype, Any]
    parallel: Any  # what torch calls to work in several threads, if that is GNU's OpenMP
    process: int  # whose threads these are; a child has none of them


def instruction_sets() -> list[str]:
    """Return the names of those for which the library has code and that this processor has, the fastest first."""
    known = {"AVX512": ["avx512", "avx2"], "AVX2": ["avx2"]}.get(torch.backends.cpu.get_cpu_capability(), [])
    return [*known, "baseline"] if build.is_current() else []


@functools.cache
def _library(instruction_set: str | None = None) -> _Library | None:
    """The library, if it was built from the source beside it; by default for the fastest instruction set."""
    if not build.is_current():
        return None
    instruction_set = instruction_set or instruction_sets()[0]
    library = ctypes.CDLL(str(build.LIBRARY))
    kernels = (_Kernel * 2).in_dll(library, f"fused_{instruction_set}")
    parallel = getattr(ctypes.CDLL(None), "GOMP_parallel", None)
    if parallel:
        parallel.argtypes, parallel.restype = [_Call, ctypes.POINTER(_Arguments), ctypes.c_uint, ctypes.c_uint], None
    return _Library(instruction_set, dict(zip(DTYPES, kernels, strict=True)), parallel, os.getpid())

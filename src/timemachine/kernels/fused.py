"""A recurrent network with its output layer, loss and all gradients in one C++ call, `fused.cpp`.

T time steps, B batch, D symbols of the inputs, L layers, G gates, H hidden units, V vocabulary.

The loss is a mean, so its incoming gradient is known up to a factor. The forward pass therefore computes the gradients
as well, one tile of windows at a time, while their states are in the cache. Results do not depend on the number of
threads, bit for bit.
"""

import ctypes
import functools
import os
import threading
from typing import Any, NamedTuple

import torch
from torch import Tensor

from timemachine import kernels
from timemachine.kernels import FUSED_CELLS
from timemachine.kernels.bptt import forbid_double_backward

DTYPES = (torch.float32, torch.float64)


class Weights(NamedTuple):
    """Weights of the layers of a recurrent network and of its output layer, from `kernels.cells.recurrent_weights`.

    The order of the gates is i, f, o, c in an LSTM, and r, z, h in a GRU, but h, r, z in its `W_h`.
    """

    W_x: Tensor  # (D, G·H), the rows that the first layer adds for each symbol
    W_up: Tensor  # (L - 1, H, G·H), weights of the inputs of the other layers
    W_h: Tensor  # (L, H, G·H)
    b: Tensor  # (L, G·H)
    W_hq: Tensor  # (H, V)
    b_q: Tensor  # (V)


WEIGHTS = ("W_x", "W_up", "W_h", "b", "W_hq", "b_q")


class _Arguments(ctypes.Structure):
    """`Arguments` of fused.cpp."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("T", "B", "D", "H", "V")),
        *((name, ctypes.c_int64) for name in ("cell", "layers", "wants_gradients", "threads")),
        ("scale", ctypes.c_double),
        *(("X", ctypes.c_void_p), ("X_t", ctypes.c_int64), ("X_b", ctypes.c_int64)),
        *(("Y", ctypes.c_void_p), ("Y_t", ctypes.c_int64), ("Y_b", ctypes.c_int64)),
        *((name, ctypes.c_void_p) for name in (*WEIGHTS, "loss", "nll_TB")),
        *((f"d{name}", ctypes.c_void_p) for name in WEIGHTS),
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


def supports(weight: Tensor) -> bool:
    """Return whether the kernel supports the weight, float32 or float64 on the CPU."""
    return weight.device.type == "cpu" and weight.dtype in DTYPES


def loss(
    X_TB: Tensor, weights: Weights, Y_TB: Tensor, cell: str = "tanh", divisor: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return the sum of the targets' negative log-likelihoods over `divisor` (T·B if None), and each of them (T, B).

    Only the sum, 0-dimensional, has gradients; `torch.no_grad` skips them and halves the time. `X_TB`, `Y_TB`: int64
    indices of the inputs and the targets, views with any strides. `cell`: one of `kernels.FUSED_CELLS`. All on the CPU,
    the weights float32 or float64. Raises IndexError for an index out of range, RuntimeError without a library, for
    other dtypes or shapes, and when differentiated twice.
    """
    arguments = X_TB, *weights, Y_TB, cell, divisor or max(Y_TB.numel(), 1), torch.is_grad_enabled()
    results: tuple[Tensor, Tensor] = _Loss.apply(*arguments)  # type: ignore[no-untyped-call]
    return results


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, X_TB: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
        *tensors, Y_TB, cell, divisor, is_grad_enabled = others
        library, weights = _library(), Weights(*tensors)
        _check(X_TB, weights, Y_TB, cell)
        wants_gradients = is_grad_enabled and any(ctx.needs_input_grad)
        gradients = [weight.new_empty(weight.shape) if wants_gradients else None for weight in weights]
        loss, nll_TB = weights.b.new_empty(()), weights.b.new_empty(Y_TB.shape)
        # In a variable, since the kernel has only addresses: a copy must live until the call has returned.
        read = [weight.contiguous() for weight in weights]
        arguments = _Arguments(
            *(*X_TB.shape, len(weights.W_x), *weights.W_hq.shape),
            *(FUSED_CELLS.index(cell), len(weights.b), wants_gradients, torch.get_num_threads(), 1 / divisor),
            *(X_TB.data_ptr(), X_TB.stride(0), X_TB.stride(1)),
            *(Y_TB.data_ptr(), Y_TB.stride(0), Y_TB.stride(1)),
            *(None if x is None else x.data_ptr() for x in (*read, loss, nll_TB, *gradients)),
        )
        kernel = library.of_dtype[weights.b.dtype]
        memory = weights.b.new_empty(kernel.bytes(arguments) // weights.b.element_size())
        arguments.memory = memory.data_ptr()
        kernel.pack(arguments)
        _in_threads(library, kernel.work, arguments)
        kernel.finish(arguments)
        if arguments.out_of_range:
            raise IndexError("index out of range in the fused kernel")
        # Already the gradients: the forward pass has computed them while the states were in the cache.
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(nll_TB)
        ctx.set_materialize_grads(False)  # no zeros (T, B) for nll_TB, whose gradient is not used
        return loss, nll_TB

    @staticmethod
    def backward(ctx: Any, g: Tensor, _: None) -> tuple[Tensor | None, ...]:
        forbid_double_backward()
        factor = g.item()
        # The factor is 1 if the loss itself is minimised, as in training: then nothing is copied.
        gradients = (x if x is None or factor == 1 else x * factor for x in ctx.saved_tensors)
        return None, *gradients, None, None, None, None


def _in_threads(library: "_Library", work: Any, arguments: _Arguments) -> None:
    """Call `work` in as many threads as torch uses, and in torch's threads if they are GNU OpenMP's.

    Torch's threads spin while they wait for work, so other threads would compete with them for the cores.
    """
    # A process that was forked has no OpenMP threads; GNU's library would wait for them forever.
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


def _check(X_TB: Tensor, weights: Weights, Y_TB: Tensor, cell: str) -> None:
    """Raise RuntimeError for invalid arguments, because the library does not check memory accesses."""
    if cell not in FUSED_CELLS or not supports(weights.b):
        raise RuntimeError(f"the fused kernel does not support {cell} in {weights.b.dtype} on {weights.b.device}")
    (H, V), L = weights.W_hq.shape, len(weights.b)
    GH = {"gru": 3, "lstm": 4}.get(cell, 1) * H
    shapes = ((len(weights.W_x), GH), (L - 1, H, GH), (L, H, GH), (L, GH), (H, V), (V,))
    expected = [
        *((weight, shape, weights.b.dtype) for weight, shape in zip(weights, shapes, strict=True)),
        *((x, X_TB.shape[:2], torch.int64) for x in (X_TB, Y_TB)),
    ]
    for x, shape, dtype in expected:
        if x.shape != shape or x.dtype != dtype or x.device.type != "cpu":
            given = f"{tuple(x.shape)} {x.dtype} on {x.device}"
            raise RuntimeError(f"expected a tensor {tuple(shape)} {dtype} on the CPU, got {given}")


class _Library(NamedTuple):
    of_dtype: dict[torch.dtype, Any]  # dtype -> kernel
    parallel: Any  # GOMP_parallel, if torch's threads are GNU OpenMP's
    process: int  # owner of these threads, which a forked child lacks


def instruction_sets() -> list[str]:
    """Return the instruction sets that both processor and library support, fastest first; the first one is used.

    avx512, avx2, and baseline for any processor; none without a library that was built from the current source.
    """
    known = {"AVX512": ["avx512", "avx2"], "AVX2": ["avx2"]}.get(torch.backends.cpu.get_cpu_capability(), [])
    return [*known, "baseline"] if kernels.is_compiled() else []


@functools.cache
def _library(instruction_set: str | None = None) -> _Library:
    """Load the library's code for an instruction set, by default the fastest. Raises RuntimeError without a library."""
    if not kernels.is_compiled():
        raise RuntimeError(f"the fused kernel is not compiled; use {kernels.BUILD}")
    library = ctypes.CDLL(str(kernels.LIBRARY))
    both = (_Kernel * 2).in_dll(library, f"fused_{instruction_set or instruction_sets()[0]}")
    parallel = getattr(ctypes.CDLL(None), "GOMP_parallel", None)
    if parallel:
        parallel.argtypes, parallel.restype = [_Call, ctypes.POINTER(_Arguments), ctypes.c_uint, ctypes.c_uint], None
    return _Library(dict(zip(DTYPES, both, strict=True)), parallel, os.getpid())

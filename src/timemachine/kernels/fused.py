"""The recurrence with its loss and all gradients in one C++ call: the equations of `bptt`, in `fused.cpp`.

T time steps, B batch, D inputs (V with one-hot inputs), H hidden units, V vocabulary.

The loss is a mean, so its incoming gradient is known up to a factor. The forward pass therefore computes the gradients
as well, one tile of windows at a time, while their states are in the cache. Results do not depend on the number of
threads, bit for bit.
"""

import ctypes
import functools
import os
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from timemachine import kernels
from timemachine.kernels.bptt import forbid_double_backward

DTYPES = (torch.float32, torch.float64)


class Weights(NamedTuple):
    """Weights of a recurrence and its output layer."""

    W_xh: Tensor  # (D, H)
    W_hh: Tensor  # (H, H)
    b_h: Tensor  # (H)
    W_hq: Tensor  # (H, V)
    b_q: Tensor  # (V)


class _Arguments(ctypes.Structure):
    """`Arguments` of fused.cpp."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("T", "B", "D", "H", "V")),
        *((name, ctypes.c_int64) for name in ("is_dense", "is_relu", "wants_gradients", "threads")),
        ("scale", ctypes.c_double),
        *(("X", ctypes.c_void_p), ("X_t", ctypes.c_int64), ("X_b", ctypes.c_int64)),
        *(("Y", ctypes.c_void_p), ("Y_t", ctypes.c_int64), ("Y_b", ctypes.c_int64)),
        *((name, ctypes.c_void_p) for name in ("W_xh", "W_hh", "b_h", "W_hq", "b_q", "loss", "nll_TB")),
        *((name, ctypes.c_void_p) for name in ("dX", "dW_xh", "dW_hh", "db_h", "dW_hq", "db_q")),
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


def supports(weight: Tensor, activation: str) -> bool:
    """Return whether the kernel supports the weight, float32 or float64 on the CPU, and the activation."""
    return weight.device.type == "cpu" and weight.dtype in DTYPES and activation in kernels.FUSED_ACTIVATIONS


def loss(
    inputs: Tensor, weights: Weights, Y_TB: Tensor, activation: str = "tanh", divisor: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return the sum of the targets' negative log-likelihoods over `divisor` (T·B if None), and each of them (T, B).

    Only the sum, 0-dimensional, has gradients; `torch.no_grad` skips them and halves the time. `inputs`:
    indices (T, B) that stand for one-hot vectors, or vectors (T, B, D). `activation`: tanh or relu. All on the CPU, the
    weights float32 or float64; indices are int64 and may be views with any strides. Raises IndexError for an index out
    of range, RuntimeError without a library, for other dtypes or shapes, and when differentiated twice.
    """
    if inputs.is_floating_point():
        inputs = inputs.to(weights.W_xh.dtype)
    arguments = inputs, *weights, Y_TB, activation, divisor or max(Y_TB.numel(), 1), torch.is_grad_enabled()
    results: tuple[Tensor, Tensor] = _Loss.apply(*arguments)  # type: ignore[no-untyped-call]
    return results


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
        *weights, Y_TB, activation, divisor, is_grad_enabled = others
        library, (W_xh, *_, b_q) = _library(), weights
        _check(inputs, weights, Y_TB, activation)
        is_dense = inputs.is_floating_point()
        if is_dense and inputs.stride(2) != 1:  # the kernel has strides for T and B only
            inputs = inputs.contiguous()
        gradients: list[Tensor | None] = [None] * 6
        if is_grad_enabled and any(ctx.needs_input_grad):
            d_inputs = inputs.new_empty(inputs.shape) if ctx.needs_input_grad[0] else None
            gradients = [d_inputs, *(weight.new_empty(weight.shape) for weight in weights)]
        loss, nll_TB = W_xh.new_empty(()), W_xh.new_empty(Y_TB.shape)
        # In a variable, since the kernel has only addresses: a copy must live until the call has returned.
        read = [weight.contiguous() for weight in weights]
        arguments = _Arguments(
            *(*inputs.shape[:2], *W_xh.shape, len(b_q)),
            *(is_dense, activation == "relu", gradients[1] is not None, torch.get_num_threads(), 1 / divisor),
            *(inputs.data_ptr(), inputs.stride(0), inputs.stride(1)),
            *(Y_TB.data_ptr(), Y_TB.stride(0), Y_TB.stride(1)),
            *(None if x is None else x.data_ptr() for x in (*read, loss, nll_TB, *gradients)),
        )
        kernel = library.of_dtype[W_xh.dtype]
        memory = W_xh.new_empty(kernel.bytes(arguments) // W_xh.element_size())
        arguments.memory = memory.data_ptr()
        kernel.pack(arguments)
        _in_threads(library, kernel.work, arguments)
        kernel.finish(arguments)
        if arguments.out_of_range:
            raise IndexError("index out of range in the fused kernel")
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
        return *gradients, None, None, None, None


def _in_threads(library: "_Library", work: Any, arguments: _Arguments) -> None:
    """Call `work` in as many threads as torch uses, and in torch's threads if they are GNU OpenMP's.

    Torch's threads spin while they wait for work, so other threads would compete with them for the cores.
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


def _check(inputs: Tensor, weights: Sequence[Tensor], Y_TB: Tensor, activation: str) -> None:
    """Raise RuntimeError for invalid arguments, because the library does not check memory accesses."""
    W_xh, V, is_dense = weights[0], len(weights[4]), inputs.is_floating_point()
    (D, H), (T, B), dtype = W_xh.shape, inputs.shape[:2], W_xh.dtype
    expected = [
        (inputs, (T, B, D) if is_dense else (T, B), dtype if is_dense else torch.int64),
        *zip(weights[1:], ((H, H), (H,), (H, V), (V,)), (dtype,) * 4, strict=True),
        (Y_TB, (T, B), torch.int64),
    ]
    for x, shape, dtype in expected:
        if x.shape != shape or x.dtype != dtype or x.device.type != "cpu":
            given = f"{tuple(x.shape)} {x.dtype} on {x.device}"
            raise RuntimeError(f"expected a tensor {shape} {dtype} on the CPU, got {given}")
    if not supports(W_xh, activation):
        raise RuntimeError(f"the fused kernel does not support {activation} in {W_xh.dtype}")


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

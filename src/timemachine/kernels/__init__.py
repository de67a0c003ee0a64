"""The same results as the readable loop, faster. This module finds out whether the compiled kernel can be used.

It does not import torch, which takes seconds.
"""

import ctypes
import hashlib
import sys
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("fused.cpp")
LIBRARY = Path(__file__).with_name("_fused.so")
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=fast", "-fPIC", "-fvisibility=hidden"]
X86_64 = {  # instruction set -> bytes of a vector and flags of the compiler
    "avx512": ["-DVECTOR_BYTES=64", "-mavx512f", "-mavx512dq", "-mavx512vl", "-mfma"],
    "avx2": ["-DVECTOR_BYTES=32", "-mavx2", "-mfma"],
}
BASELINE = {"baseline": ["-DVECTOR_BYTES=16"]}

BUILD = "python -m timemachine.kernels.build"
NOT_COMPILED = f"the fused kernel is not compiled: with a C++ compiler, {BUILD} makes training about 3 times as fast"

# Cells of the fused kernel: the RNN's by their activations, the others by their names in `model.cell`.
FUSED_CELLS = ("tanh", "relu", "gru", "lstm")
# The largest sizes at which it beat bptt and autograd in `make bench`, on AVX2 and AVX-512 (above 256 symbols: on
# AVX-512 only).
MAX_FUSED_HIDDENS, MAX_FUSED_VOCABULARY = 512, 5_000


def source_hash() -> str:
    """Return the SHA-256 of the source and the compiler flags; the library contains it. Raises OSError."""
    return hashlib.sha256(SOURCE.read_bytes() + repr((FLAGS, X86_64, BASELINE)).encode()).hexdigest()


@cache
def is_compiled() -> bool:
    """Return whether the library was built from the current source. Reads the library without loading it."""
    try:
        return f"source {source_hash()}".encode() in LIBRARY.read_bytes()
    except OSError:
        return False


def is_fastest(num_hiddens: int, vocab_size: int) -> bool:
    """Return whether the compiled kernel is faster than bptt and autograd on the CPU.

    Only the arguments decide: a measurement could choose another kernel in each run, with other rounding errors.
    """
    return num_hiddens <= MAX_FUSED_HIDDENS and vocab_size <= MAX_FUSED_VOCABULARY


def keep_freed_memory() -> None:
    """Let glibc keep the memory that a training step frees, up to 1 GB in blocks of up to 32 MB, for the next step.

    Otherwise it returns the memory to the system, which pages it in again, 4 KB at a time. This takes half of the time
    of a step of bptt or autograd with the book's sizes. Without glibc, there is no effect.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-3, 1 << 25)  # M_MMAP_THRESHOLD of malloc.h
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD

"""The same numbers as the readable loop, faster. Here: whether the compiled kernel is there, and what it is for.

Without torch, whose import takes seconds.
"""

import ctypes
import hashlib
import sys
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("fused.cpp")
LIBRARY = Path(__file__).with_name("_fused.so")
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=fast", "-fPIC", "-fvisibility=hidden"]
X86_64 = {  # what the code calls them, the bytes of a vector, and what the compiler needs to know
    "avx512": ["-DVECTOR_BYTES=64", "-mavx512f", "-mavx512dq", "-mavx512vl", "-mfma"],
    "avx2": ["-DVECTOR_BYTES=32", "-mavx2", "-mfma"],
}
BASELINE = {"baseline": ["-DVECTOR_BYTES=16"]}

BUILD = "python -m timemachine.kernels.build"
NOT_COMPILED = f"the fused kernel is not compiled: with a C++ compiler, {BUILD} makes training about 3 times as fast"

# What it computes, and the sizes up to which `make bench` found it faster than bptt: on AVX2 and AVX-512; beyond 256
# symbols on AVX-512 alone.
FUSED_ACTIVATIONS, WIDEST, LARGEST_VOCABULARY = ("tanh", "relu"), 512, 5_000


def source_hash() -> str:
    """Return the SHA-256 of the source and of how it is compiled, which the library carries. Raises OSError."""
    return hashlib.sha256(SOURCE.read_bytes() + repr((FLAGS, X86_64, BASELINE)).encode()).hexdigest()


@cache
def is_compiled() -> bool:
    """Return whether the library was built from the source beside it, as it is now. It is read, but not loaded."""
    try:
        return f"source {source_hash()}".encode() in LIBRARY.read_bytes()
    except OSError:
        return False


def is_fastest(num_hiddens: int, vocab_size: int, activation: str) -> bool:
    """Return whether the compiled kernel is faster than bptt on the CPU: by sizes alone, so that digits stay alike."""
    return num_hiddens <= WIDEST and vocab_size <= LARGEST_VOCABULARY and activation in FUSED_ACTIVATIONS


def keep_freed_memory() -> None:
    """Let glibc keep what a training step frees, up to 1 GB in blocks of up to 32 MB, for the next step.

    Otherwise it gives the memory back to the system, which pages it in anew, 4 KB at a time: half of a step of bptt or
    autograd with the book's sizes. Without glibc nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(-3, 1 << 25)  # M_MMAP_THRESHOLD of malloc.h
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD

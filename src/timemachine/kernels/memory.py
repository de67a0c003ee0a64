"""Large temporary tensors on the CPU without page faults."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of the C library's malloc.h


def keep_freed_memory() -> None:
    """Let glibc keep what a training step frees, up to 1 GB in blocks of up to 32 MB, for the next step.

    Otherwise it gives the memory back to the system, which pages it in anew, 4 KB at a time: half of a step of bptt or
    autograd with the book's sizes. Without glibc nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 25)
        mallopt(M_TRIM_THRESHOLD, 1 << 30)

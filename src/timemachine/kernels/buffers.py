"""Large temporary tensors on the CPU without page faults.

The C library gives every freed block of some megabytes back to the system, and the next one is paged in anew, 4 KB at a
time: half of the time of a training step. So blocks are kept, and handed out again when nothing refers to them.
"""

import math
import sys
import threading

import numpy as np
import torch
from torch import Tensor

SMALL = 1 << 17  # bytes; below this the C library keeps blocks itself
ALIGNMENT = 64  # bytes; a cache line


class _Kept(threading.local):
    """Blocks by size, of one thread."""

    def __init__(self) -> None:
        self.blocks: dict[int, list[np.ndarray]] = {}


_kept = _Kept()
_UNUSED = 3  # references to a block that no tensor uses: the list's, the loop's, getrefcount's


def empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """An uninitialised tensor with the dtype and device of `like`. Its memory is reused once no tensor refers to it."""
    size = math.prod(shape) * like.element_size()
    if like.device.type != "cpu" or size < SMALL:
        return like.new_empty(shape)
    rounded = 1 << (size - 1).bit_length()  # pages that are never touched cost nothing
    blocks = _kept.blocks.setdefault(rounded, [])
    for block in blocks:
        if sys.getrefcount(block) == _UNUSED:
            break
    else:
        block = np.empty(rounded + ALIGNMENT, np.uint8)
        blocks.append(block)
    offset = -block.ctypes.data % ALIGNMENT
    return torch.from_numpy(block)[offset : offset + size].view(like.dtype).view(shape)

"""How far apart two computations of the same number may be, whatever the processor."""

import torch


def rounding(operations: float, dtype: torch.dtype = torch.float32) -> float:
    """Return the largest relative difference of two sums of as many terms that are added in different orders.

    Each order is off by at most n u of the sum of the terms' sizes, n their number and u half an epsilon, and so are
    chains of n other operations (Higham, *Accuracy and Stability of Numerical Algorithms*, section 4.2). Where a sum is
    so long that its errors cancel, √n takes the place of n (section 2.8).
    """
    return operations * torch.finfo(dtype).eps

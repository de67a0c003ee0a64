"""Bounds on rounding errors, for any processor."""

import torch


def rounding(operations: float, dtype: torch.dtype = torch.float32) -> float:
    """Return the largest relative difference of two sums of `operations` terms that are added in different orders.

    The error of each sum is at most n u times the sum of the absolute terms, with n terms and u half an epsilon. The
    same bound holds for chains of n other operations (Higham, *Accuracy and Stability of Numerical Algorithms*, section
    4.2). In long sums errors cancel, and √n replaces n (section 2.8).
    """
    return operations * torch.finfo(dtype).eps

"""The output layer and its cross-entropy as one function with its gradient.

N = T·B predictions, H hidden units, V vocabulary. With the logits O = H W_hq + b_q, transposed to (V, N) so that sums
over the vocabulary run along the memory, and target y_n of prediction n:

    nll_n = log Σ_v exp(O_vn) − O_{y_n,n}

Backward, from the gradient g_n of each nll_n: dO_vn = g_n (exp(O_vn) / Σ_v' exp(O_v'n) − [v = y_n]), and then

    dW_hq = Hᵀ dOᵀ      db_q = Σ_n dO      dH = dOᵀ W_hqᵀ

`torch.nn.functional.cross_entropy` on the output layer's logits is the reference.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from timemachine import buffers


def output_nll(H_TBH: Tensor, W_hq: Tensor, b_q: Tensor, Y_TB: Tensor) -> Tensor:
    """Negative log-likelihoods (T, B), in nats, of the targets `Y_TB` under softmax(H W_hq + b_q).

    `H_TBH` (T, B, H), `W_hq` (H, V), `b_q` (V). Under autocast it stays in the weights' precision. Raises RuntimeError
    when differentiated twice.
    """
    with torch.autocast(W_hq.device.type, enabled=False):
        nll_TB: Tensor = _OutputNLL.apply(H_TBH.to(W_hq.dtype), W_hq, b_q, Y_TB)  # type: ignore[no-untyped-call]
    return nll_TB


class _OutputNLL(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, H_TBH: Tensor, W_hq: Tensor, b_q: Tensor, Y_TB: Tensor) -> Tensor:
        H_NH, y_1N = H_TBH.reshape(-1, len(W_hq)), Y_TB.reshape(1, -1)
        O_VN = buffers.empty((len(b_q), len(H_NH)), W_hq)
        torch.addmm(b_q[:, None], W_hq.T, H_NH.T, out=O_VN)
        O_VN -= O_VN.amax(0)  # for the sum's sake; it cancels
        target_N = O_VN.gather(0, y_1N)[0]
        exp_VN = _exp_(O_VN)
        total_N = exp_VN.sum(0)
        ctx.save_for_backward(H_NH, W_hq, y_1N, exp_VN, total_N)
        return (total_N.log() - target_N).view(Y_TB.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_TB: Tensor) -> tuple[Tensor | None, ...]:
        H_NH, W_hq, y_1N, exp_VN, total_N = ctx.saved_tensors
        with torch.autocast(W_hq.device.type, enabled=False):
            g_N = g_TB.reshape(-1)
            dO_VN = torch.mul(exp_VN, g_N / total_N, out=buffers.empty(exp_VN.shape, exp_VN))
            dO_VN.scatter_add_(0, y_1N, -g_N[None])
            dH_NH = torch.mm(dO_VN.T, W_hq.T, out=buffers.empty(H_NH.shape, H_NH))
            return dH_NH.view(*g_TB.shape, -1), (dO_VN @ H_NH).T, dO_VN.sum(1), None


def _exp_(x: Tensor) -> Tensor:
    """exp in place; numpy's on the CPU, which takes half the time of torch's."""
    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64):
        np.exp(x.numpy(), out=x.numpy())
        return x
    return x.exp_()

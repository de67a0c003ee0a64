"""The output layer and its cross-entropy as one function with its gradient.

N = T·B predictions, H hidden units, V vocabulary. With the logits O = H W_hq + b_q, transposed to (V, N) so that sums
over the vocabulary run along the memory, and target y_n of prediction n:

    nll_n = log Σ_v exp(O_vn) − O_{y_n,n}

Backward, from the gradient g_n of each nll_n: dO_vn = g_n (exp(O_vn) / Σ_v' exp(O_v'n) − [v = y_n]), and then

    dW_hq = Hᵀ dOᵀ      db_q = Σ_n dO      dH = dOᵀ W_hqᵀ

`torch.nn.functional.cross_entropy` on the output layer's logits is the reference.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from timemachine import buffers

CHUNK = 1 << 17  # logits at a time: half a megabyte


def output_nll(H_TBH: Tensor, W_hq: Tensor, b_q: Tensor, Y_TB: Tensor) -> Tensor:
    """Negative log-likelihoods (T, B), in nats, of the targets `Y_TB` under softmax(H W_hq + b_q).

    `H_TBH` (T, B, H), `W_hq` (H, V), `b_q` (V). Under autocast it stays in the weights' precision. Raises RuntimeError
    when differentiated twice.
    """
    with torch.autocast(W_hq.device.type, enabled=False):
        nll_TB: Tensor = _OutputNLL.apply(H_TBH.to(W_hq.dtype), W_hq, b_q, Y_TB)  # type: ignore[no-untyped-call]
    return nll_TB


class _OutputNLL(torch.autograd.Function):
    """In chunks of predictions, so that the five passes over the logits of each find them in the cache."""

    @staticmethod
    def forward(ctx: Any, H_TBH: Tensor, W_hq: Tensor, b_q: Tensor, Y_TB: Tensor) -> Tensor:
        H_NH, y_N = H_TBH.reshape(-1, len(W_hq)), Y_TB.reshape(-1)
        exp_VN = buffers.empty((len(b_q), len(H_NH)), W_hq)
        total_N, nll_N = torch.empty_like(H_NH[:, 0]), torch.empty_like(H_NH[:, 0])
        for n in _chunks(exp_VN):
            O_VN = torch.addmm(b_q[:, None], W_hq.T, H_NH[n].T)
            O_VN -= O_VN.amax(0)  # for the sum's sake; it cancels
            nll_N[n] = O_VN.gather(0, y_N[None, n])[0]
            _exp(O_VN, out=exp_VN[:, n])
            torch.sum(exp_VN[:, n], 0, out=total_N[n])
        ctx.save_for_backward(H_NH, W_hq, y_N, exp_VN, total_N)
        return (total_N.log() - nll_N).view(Y_TB.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_TB: Tensor) -> tuple[Tensor | None, ...]:
        H_NH, W_hq, y_N, exp_VN, total_N = ctx.saved_tensors
        with torch.autocast(W_hq.device.type, enabled=False):
            g_N = g_TB.reshape(-1)
            scale_N = g_N / total_N
            dH_NH = buffers.empty(H_NH.shape, H_NH)
            dW_hqT, db_q = torch.zeros_like(W_hq.T), torch.zeros_like(W_hq[0])
            for n in _chunks(exp_VN):
                dO_VN = exp_VN[:, n] * scale_N[n]
                dO_VN.scatter_add_(0, y_N[None, n], -g_N[None, n])
                torch.mm(dO_VN.T, W_hq.T, out=dH_NH[n])
                dW_hqT.addmm_(dO_VN, H_NH[n])
                db_q += dO_VN.sum(1)
            return dH_NH.view(*g_TB.shape, -1), dW_hqT.T, db_q, None


def _chunks(exp_VN: Tensor) -> Iterator[slice]:
    num_tokens = exp_VN.shape[1]
    size = CHUNK // len(exp_VN) if exp_VN.device.type == "cpu" else num_tokens
    for start in range(0, num_tokens, size):
        yield slice(start, start + size)


def _exp(x: Tensor, out: Tensor) -> None:
    """exp; numpy's on the CPU, which takes half the time of torch's."""
    if x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64):
        with np.errstate(all="ignore"):  # a logit that is not finite is found in the loss
            np.exp(x.numpy(), out=out.numpy())
    else:
        torch.exp(x, out=out)

"""The output layer and its cross-entropy, with their gradient by hand.

C time steps, B batch, H hidden units, V vocabulary. With the logits O_t = (H_t W_hq + b_q)ᵀ of each time step, (V, B)
so that sums over the vocabulary run along the memory, and the target y_b of prediction b:

    nll_b = log Σ_v exp(O_vb) − O_{y_b,b}

Backward, from the gradient g_b of each nll_b: dO_vb = g_b (exp(O_vb) / Σ_v' exp(O_v'b) − [v = y_b]), and then, summed
over t and b,

    dW_hqᵀ = Σ dO_t H_t      db_q = Σ dO      dH_t = dO_tᵀ W_hqᵀ

`torch.nn.functional.cross_entropy` on the output layer's logits is the reference. One product for all time steps,
(V, N) or (N, V), was no faster.
"""

import torch
from torch import Tensor

from timemachine.kernels import buffers


def output_layer(
    H_CBH: Tensor, W_hqT: Tensor, b_q: Tensor, Y_CB: Tensor, subtract: bool, out: tuple[Tensor, Tensor, Tensor]
) -> None:
    """To `out`: exp(O) (C, V, B), its sums over the vocabulary (C, B), and O of the targets (C, B).

    `subtract` the largest logit of each prediction from all of them: it cancels, and exp overflows beyond 88, but it
    costs a fifth of this function, and logits rarely come near.
    """
    exp_CVB, total_CB, target_CB = out
    torch.bmm(W_hqT.expand(len(H_CBH), *W_hqT.shape), H_CBH.transpose(1, 2), out=exp_CVB)
    exp_CVB += b_q[:, None]
    if subtract:
        exp_CVB -= exp_CVB.amax(1, keepdim=True)
    torch.gather(exp_CVB, 1, Y_CB[:, None], out=target_CB[:, None])
    torch.sum(exp_CVB.exp_(), 1, out=total_CB)


def output_gradients(
    H_CBH: Tensor, W_hqT: Tensor, Y_CB: Tensor, exp_CVB: Tensor, scale_CB: Tensor, minus_g_CB: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """dH (C, B, H), dW_hqᵀ (V, H) and db_q (V); `scale_CB` is g over the sum of exp(O), `minus_g_CB` is −g."""
    dO_CVB = torch.mul(exp_CVB, scale_CB[:, None], out=buffers.empty(exp_CVB.shape, exp_CVB))
    dO_CVB.scatter_add_(1, Y_CB[:, None], minus_g_CB[:, None])
    dH_CBH = buffers.empty(H_CBH.shape, H_CBH)
    torch.bmm(dO_CVB.transpose(1, 2), W_hqT.expand(len(H_CBH), *W_hqT.shape), out=dH_CBH)
    return dH_CBH, torch.bmm(dO_CVB, H_CBH).sum(0), dO_CVB.sum((0, 2))

"""The output layer and its cross-entropy, with their gradient by hand.

C time steps, B batch, N = C·B predictions, H hidden units, V vocabulary. With the logits O = H W_hq + b_q, transposed
to (V, N) so that sums over the vocabulary run along the memory, and target y_n of prediction n:

    nll_n = log Σ_v exp(O_vn) − O_{y_n,n}

Backward, from the gradient g_n of each nll_n: dO_vn = g_n (exp(O_vn) / Σ_v' exp(O_v'n) − [v = y_n]), and then

    dW_hqᵀ = dO H      db_q = Σ_n dO      dH = dOᵀ W_hqᵀ

`torch.nn.functional.cross_entropy` on the output layer's logits is the reference. Logits (N, V) were tried: their products
are faster on two threads, all else is slower, and the sum is no better.
"""

import torch
from torch import Tensor

from timemachine import buffers


def output_layer(
    H_CBH: Tensor,
    W_hqT: Tensor,
    b_q: Tensor,
    Y_CB: Tensor,
    subtract: bool,
    out: tuple[Tensor, Tensor, Tensor],
) -> None:
    """To `out`: exp(O), a (V, N) in the memory of a (C, B, V), its sums over V (C, B), and the targets' O (C, B).

    `subtract` the largest logit of each prediction from all of them: it cancels, and exp overflows beyond 88, but it
    costs a fifth of this function, and logits rarely come near.
    """
    exp_VN, total_N, target_N = out[0].view(len(b_q), -1), out[1].view(-1), out[2].view(-1)
    torch.mm(W_hqT, H_CBH.flatten(0, 1).T, out=exp_VN)
    exp_VN += b_q[:, None]
    if subtract:
        exp_VN -= exp_VN.amax(0)
    torch.gather(exp_VN, 0, Y_CB.view(1, -1), out=target_N[None])
    torch.sum(exp_VN.exp_(), 0, out=total_N)


def output_gradients(
    H_CBH: Tensor, W_hqT: Tensor, Y_CB: Tensor, exp_CBV: Tensor, scale_CB: Tensor, minus_g_CB: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """dH (C, B, H), dW_hqᵀ (V, H) and db_q (V); `scale_CB` is g over the sum of exp(O), `minus_g_CB` is −g."""
    exp_VN, H_NH = exp_CBV.view(len(W_hqT), -1), H_CBH.flatten(0, 1)
    dO_VN = torch.mul(exp_VN, scale_CB.view(-1), out=buffers.empty(exp_VN.shape, exp_VN))
    dO_VN.scatter_add_(0, Y_CB.view(1, -1), minus_g_CB.view(1, -1))
    dH_CBH = buffers.empty(H_CBH.shape, H_CBH)
    torch.mm(dO_VN.T, W_hqT, out=dH_CBH.view(H_NH.shape))
    return dH_CBH, dO_VN @ H_NH, dO_VN.sum(1)

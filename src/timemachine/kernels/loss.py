"""The loss of a language model by the fastest code that knows it: fused, bptt or autograd, the same numbers.

T time steps, B batch.
"""

from typing import Any

import torch
from torch import Tensor

from timemachine import kernels
from timemachine.kernels import fused


def is_the_books(module: Any) -> bool:
    """Return whether kernels may stand in for a module's `the_books`: no other method took the place of one."""
    the_books = getattr(module, "the_books", ())
    are_now = [getattr(getattr(module, method.__name__), "__func__", None) for method in the_books]
    return bool(the_books) and are_now == [*the_books]


def kernel_of(model: Any) -> str:
    """Return what computes the loss of an `RNNLMScratch` and its gradients where its weights are.

    fused: loss and gradients in one call of C++, if that is compiled. bptt: the recurrence differentiated by hand, the
    rest by PyTorch, a subclass's own code too. autograd: the readable loop, any cell but the book's, and under
    autocast, whose precision the others do not take.
    """
    rnn = model.rnn
    if not is_the_books(rnn) or rnn.backward_by == "autograd" or torch.is_autocast_enabled(model.W_hq.device.type):
        return "autograd"
    is_fastest = kernels.is_fastest(rnn.num_hiddens, model.vocab_size, rnn.activation)
    wants_fused = rnn.backward_by == "fused" or (rnn.backward_by == "auto" and is_fastest)
    can_be_fused = is_the_books(model) and fused.knows(model.W_hq, rnn.activation) and kernels.is_compiled()
    return "fused" if wants_fused and can_be_fused else "bptt"


def mean_nll(model: Any, batch: tuple[Tensor, Tensor], divisor: float = 1) -> tuple[Tensor, Tensor]:
    """Return the sum of the targets' negative log-likelihoods over `divisor`, and each of them (B, T), in nats.

    `model`: an `RNNLMScratch`. Only the sum has gradients. Raises SettingError if the model trains with
    `backward="fused"` where that kernel is not compiled or does not compute such a network.
    """
    X_BT, Y_BT = batch
    if kernel_of(model) == "fused":
        rnn = model.rnn
        weights = fused.Weights(rnn.W_xh, rnn.W_hh, rnn.b_h, model.W_hq, model.b_q)
        loss, nll_TB = fused.loss(model.inputs(X_BT), weights, Y_BT.T, rnn.activation, divisor)
        return loss, nll_TB.T
    if model.hparams["backward"] == "fused" and torch.is_grad_enabled():
        fused.refuse(model, is_the_books(model))
    nll_BT = model.nll(batch)
    return sum_over(nll_BT, divisor), nll_BT.detach()


def sum_over(loss_BT: Tensor, divisor: float) -> Tensor:
    """Return the sum of the losses over `divisor`, in 32 bits at least: 16 bits overflow at 65,504."""
    return loss_BT.sum(dtype=torch.promote_types(loss_BT.dtype, torch.float32)) / divisor

"""Backpropagation through time by hand: the recurrence as one function with its gradient.

T time steps, B batch, N = T·B, D inputs, H hidden units, V vocabulary.

Forward, for t = 1 … T (equation 9.4.5 of the book):

    Z_t = X_t W_xh + H_{t-1} W_hh + b_h                     (B, H)
    H_t = φ(Z_t)

Backward. Let G_t (B, H) be the gradient of the loss with respect to H_t as an output of this function, to which the
last state's own gradient is added at t = T. H_t also acts through Z_{t+1}, so with ⊙ element by element, dZ_{T+1} = 0,

    dZ_t = (G_t + dZ_{t+1} W_hhᵀ) ⊙ φ'(Z_t)                 (B, H), for t = T … 1

and φ' comes from the outputs: 1 − H_t² for tanh, 1 where H_t > 0, else 0, for ReLU. Then, summed over t,

    dW_hh = Σ H_{t-1}ᵀ dZ_t      dW_xh = Σ X_tᵀ dZ_t      db_h = Σ (dZ_t summed over B)
    dX_t  = dZ_t W_xhᵀ           dH_0  = dZ_1 W_hhᵀ

Each Σ is one product over all N rows after the loop. With one-hot inputs X_t W_xh is a table look-up, row i of W_xh for
index i, and dW_xh adds row n of dZ to the row of n's index.

tanh is numpy's on the CPU: as accurate as torch's and ten times as fast. 2·sigmoid(2x) − 1 is no alternative: its
absolute error of 1e-7 is a large relative one for the small states of a small sigma.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from timemachine import buffers

Array = npt.NDArray[Any]


def recurrence(
    inputs: Tensor, W_xh: Tensor, W_hh: Tensor, b_h: Tensor, H_BH: Tensor | None = None, activation: str = "tanh"
) -> tuple[Tensor, Tensor]:
    """All hidden states (T, B, H) and the last one (B, H).

    `inputs`: indices (T, B), which stand for one-hot vectors, or vectors (T, B, D). `W_xh` (D, H), `W_hh` (H, H), `b_h`
    (H), the state before the first step `H_BH` (B, H), zero if None. `activation`: tanh or relu. Under autocast the
    recurrence stays in the weights' precision. Raises RuntimeError when differentiated twice.
    """
    with torch.autocast(W_xh.device.type, enabled=False):
        if inputs.is_floating_point():
            inputs = inputs.to(W_xh.dtype)
        if H_BH is not None:
            H_BH = H_BH.to(W_xh.dtype)
        states: tuple[Tensor, Tensor] = _Recurrence.apply(inputs, W_xh, W_hh, b_h, H_BH, activation)  # type: ignore[no-untyped-call]
    return states


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        W_xh: Tensor,
        W_hh: Tensor,
        b_h: Tensor,
        H_BH: Tensor | None,
        activation: str,
    ) -> tuple[Tensor, Tensor]:
        T, B = inputs.shape[:2]
        H = len(W_hh)
        states = buffers.empty((T + 1, B, H), W_hh)  # the state before the first step, then T of them
        Z_NH = states[1:].view(T * B, H)
        if inputs.is_floating_point():
            torch.addmm(b_h, inputs.reshape(T * B, -1), W_xh, out=Z_NH)
        else:
            torch.index_select(W_xh + b_h, 0, inputs.reshape(-1), out=Z_NH)
        if H_BH is None:
            states[0].zero_()
        else:
            states[0].copy_(H_BH)
        activate_, _ = ELEMENTWISE[activation, _in_numpy(states)]
        steps = states.unbind()
        with np.errstate(all="ignore"):  # a state that overflows is found in the loss
            for previous, state, operand in zip(steps, steps[1:], _operands(states)[1:], strict=False):
                state.addmm_(previous, W_hh)
                activate_(operand)
        ctx.save_for_backward(inputs, W_xh, W_hh, states)
        ctx.activation = activation
        return states[1:], states[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, G_TBH: Tensor, G_last_BH: Tensor) -> tuple[Tensor | None, ...]:
        inputs, W_xh, W_hh, states = ctx.saved_tensors
        needs_inputs, needs_W_xh, needs_W_hh, needs_b_h, needs_H, _ = ctx.needs_input_grad
        T, B, H = G_TBH.shape
        with torch.autocast(W_hh.device.type, enabled=False), np.errstate(all="ignore"):
            dZ_TBH = buffers.empty((T, B, H), W_hh)
            W_hhT = W_hh.T.contiguous()
            _, times_derivative_ = ELEMENTWISE[ctx.activation, _in_numpy(states)]
            gradients, results = G_TBH.unbind(), dZ_TBH.unbind()
            outputs, products = _operands(states)[1:], _operands(dZ_TBH)
            spare = _operands(torch.empty_like(states[:1]))[0]
            for t in reversed(range(T)):
                if t == T - 1:
                    torch.add(gradients[t], G_last_BH, out=results[t])
                else:
                    torch.addmm(gradients[t], results[t + 1], W_hhT, out=results[t])
                times_derivative_(products[t], outputs[t], spare)
            dZ_NH = dZ_TBH.view(T * B, H)
            dW_xh = d_inputs = None
            if inputs.is_floating_point():
                dW_xh = inputs.reshape(T * B, -1).T @ dZ_NH if needs_W_xh else None
                d_inputs = (dZ_NH @ W_xh.T).view(inputs.shape) if needs_inputs else None
            elif needs_W_xh:
                # A table for each step, then their sum: float32 loses less in many short sums than in one long one.
                row_N = (inputs + len(W_xh) * torch.arange(T, device=inputs.device)[:, None]).reshape(-1)
                tables = W_xh.new_zeros(T * len(W_xh), H).index_add_(0, row_N, dZ_NH)
                dW_xh = tables.view(T, *W_xh.shape).sum(0)
            dW_hh = states[:-1].view(T * B, H).T @ dZ_NH if needs_W_hh else None
            db_h = dZ_NH.sum(0) if needs_b_h else None
            dH_BH = results[0] @ W_hhT if needs_H else None
        return d_inputs, dW_xh, dW_hh, db_h, dH_BH, None


# On the CPU the operations on elements are numpy's: they cost a third of the call, and tanh a tenth of the work.


def _in_numpy(states: Tensor) -> bool:
    return states.device.type == "cpu" and states.dtype in (torch.float32, torch.float64)


def _operands(states: Tensor) -> list[Any]:
    """What the functions below take for each step: arrays on the same memory, or tensors."""
    return list(states.numpy()) if _in_numpy(states) else list(states.unbind())


def _tanh_numpy_(Z: Array) -> None:
    np.tanh(Z, out=Z)


def _times_dtanh_numpy_(G: Array, H: Array, spare: Array) -> None:
    np.multiply(H, H, out=spare)
    np.subtract(1, spare, out=spare)
    np.multiply(G, spare, out=G)


def _relu_numpy_(Z: Array) -> None:
    np.maximum(Z, 0, out=Z)


def _times_drelu_numpy_(G: Array, H: Array, spare: Array) -> None:
    np.multiply(G, H > 0, out=G)


def _times_dtanh_torch_(G: Tensor, H: Tensor, spare: Tensor) -> None:
    torch.mul(H, H, out=spare)
    G.addcmul_(G, spare, value=-1)


def _times_drelu_torch_(G: Tensor, H: Tensor, spare: Tensor) -> None:
    G.mul_(H > 0)


ELEMENTWISE: dict[tuple[str, bool], tuple[Callable[..., Any], Callable[..., Any]]] = {
    ("tanh", True): (_tanh_numpy_, _times_dtanh_numpy_),
    ("relu", True): (_relu_numpy_, _times_drelu_numpy_),
    ("tanh", False): (torch.tanh_, _times_dtanh_torch_),
    ("relu", False): (torch.relu_, _times_drelu_torch_),
}

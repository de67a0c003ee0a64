"""Backpropagation through time by hand: the recurrence as a function with gradients.

T time steps, B batch, N = T·B, H hidden units, V symbols.

Forward, for t = 1 … T (equation 9.4.5 of the book):

    Z_t = X_t W_xh + H_{t-1} W_hh + b_h                     (B, H)
    H_t = φ(Z_t)

Backward. Let G_t (B, H) be the gradient of the loss with respect to H_t as an output of this function, to which the
last state's own gradient is added at t = T. H_t also acts through Z_{t+1}, so with ⊙ element by element, dZ_{T+1} = 0,

    dZ_t = (G_t + dZ_{t+1} W_hhᵀ) ⊙ φ'(Z_t)                 (B, H), for t = T … 1

and φ' comes from the outputs: 1 − H_t² for tanh, 1 where H_t > 0, else 0, for ReLU. Then, summed over t,

    dW_hh = Σ H_{t-1}ᵀ dZ_t      dW_xh = Σ X_tᵀ dZ_t      db_h = Σ (dZ_t summed over B)      dH_0 = dZ_1 W_hhᵀ

With one-hot inputs X_t W_xh is a table look-up, row i of W_xh for index i, and dW_xh adds row n of dZ to row i_n, where
i_n is the index of input n. With an embedding E (V, D), the rows are those of E W_xh.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from timemachine.kernels.activations import BY_HAND


def recurrence(
    X_TB: Tensor, W_xh: Tensor, W_hh: Tensor, b_h: Tensor, H_BH: Tensor | None = None, activation: str = "tanh"
) -> tuple[Tensor, Tensor]:
    """Return all hidden states (T, B, H) and the last one (B, H).

    `X_TB`: indices (T, B) of rows of `W_xh` (V, H). `W_hh` (H, H), `b_h` (H), the state before the first step `H_BH`
    (B, H), zero if None. `activation`: a name in `BY_HAND`. Under autocast the recurrence stays in the weights'
    precision. Raises RuntimeError when differentiated twice, ValueError for inputs of another shape, such as one-hot
    vectors.
    """
    if X_TB.dim() != 2:
        raise ValueError(f"inputs of shape {tuple(X_TB.shape)}: must be indices (T, B)")
    with torch.autocast(W_xh.device.type, enabled=False):
        H_BH = None if H_BH is None else H_BH.to(W_xh.dtype)
        arguments = X_TB, W_xh, W_hh, b_h, H_BH, activation
        states: tuple[Tensor, Tensor] = _Recurrence.apply(*arguments)  # type: ignore[no-untyped-call]
    return states


def forbid_double_backward() -> None:
    """Raise RuntimeError if the calling `backward` is to be differentiated: PyTorch may silently return zeros."""
    if torch.is_grad_enabled():
        raise RuntimeError("this kernel does not support double backward; build the model with backward='autograd'")


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, X_TB: Tensor, W_xh: Tensor, W_hh: Tensor, b_h: Tensor, H_BH: Tensor | None, activation: str
    ) -> tuple[Tensor, Tensor]:
        (T, B), H = X_TB.shape, len(W_hh)
        states = W_hh.new_empty(T + 1, B, H)  # the initial state, and the state after each step
        states[0] = 0 if H_BH is None else H_BH
        Z_NH = states[1:].view(T * B, H)
        # Adds the bias once per symbol instead of once per window and step.
        torch.index_select(W_xh + b_h, 0, X_TB.reshape(-1), out=Z_NH)
        row, steps = BY_HAND[activation], states.unbind()
        has_array = states.device.type == "cpu" and states.dtype in (torch.float32, torch.float64)
        on_array: Any = row.on_array if has_array else None
        activate_, operands = on_array or row.apply_, states.numpy() if on_array else steps  # share memory
        with np.errstate(all="ignore"):  # an overflow shows in the loss, and the run ends as diverged
            for previous, state, operand in zip(steps, steps[1:], operands[1:], strict=False):
                state.addmm_(previous, W_hh)
                activate_(operand)
        ctx.save_for_backward(X_TB, W_hh, states)
        ctx.num_symbols = len(W_xh)
        ctx.activation = activation
        return states[1:], states[-1].clone()

    @staticmethod
    def backward(ctx: Any, G_TBH: Tensor, G_last_BH: Tensor) -> tuple[Tensor | None, ...]:
        forbid_double_backward()
        X_TB, W_hh, states = ctx.saved_tensors
        times_derivative_ = BY_HAND[ctx.activation].times_derivative_
        (T, B, H), W_hhT = G_TBH.shape, W_hh.T.contiguous()
        dZ_TBH, H_TBH = G_TBH.clone(memory_format=torch.contiguous_format), states[1:].unbind()
        dZ, dZ_NH = dZ_TBH.unbind(), dZ_TBH.view(T * B, H)
        with torch.autocast(W_hh.device.type, enabled=False):
            # dZ_t of the docstring, in place of the copy of G_t.
            dZ[-1].add_(G_last_BH)
            times_derivative_(dZ[-1], H_TBH[-1])
            for t in reversed(range(T - 1)):
                dZ[t].addmm_(dZ[t + 1], W_hhT)
                times_derivative_(dZ[t], H_TBH[t])
            dW_hh = states[:-1].view(T * B, H).T @ dZ_NH
            # A table for each step, then their sum: many short sums in float32 are more precise than a long one. A
            # symbol of a large vocabulary has few summands, and its tables would take most of the time and the memory.
            V = ctx.num_symbols
            tables = 1 if V > 4 * B else T
            row_N = (X_TB + V * torch.arange(T, device=X_TB.device)[:, None] * (tables > 1)).reshape(-1)
            dW_xh = dZ_NH.new_zeros(tables * V, H).index_add_(0, row_N, dZ_NH).view(tables, V, H).sum(0)
            db_h = dW_xh.sum(0)
            dH_BH = dZ[0] @ W_hhT if ctx.needs_input_grad[4] else None
        return None, dW_xh, dW_hh, db_h, dH_BH, None

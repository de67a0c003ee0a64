"""The cells that the fused kernel supports, and their weights as it reads them.

D inputs, L layers, G gates, H hidden units, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from timemachine.cells import GRUScratch, LSTMScratch, StackedRNNScratch
from timemachine.kernels import FUSED_CELLS
from timemachine.rnn import RNNScratch


def fused_cell(rnn: nn.Module) -> str | None:
    """Return the cell of `kernels.FUSED_CELLS` that computes the same as the module; None for any other module."""
    layers: Sequence[Any] = rnn.rnns if type(rnn) is StackedRNNScratch else [rnn]  # type: ignore[assignment]
    if all(type(layer) is RNNScratch for layer in layers):
        activations = {layer.activation for layer in layers}
        return activations.pop() if len(activations) == 1 and activations <= {*FUSED_CELLS} else None
    return {GRUScratch: "gru", LSTMScratch: "lstm"}.get(type(rnn))


def recurrent_weights(rnn: Any, vectors_VD: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the W_x (V, G·H), W_up (L - 1, H, G·H), W_h (L, H, G·H) and b (L, G·H) of `fused.Weights`.

    `vectors_VD`: the vectors that the cell reads for the symbols; None if they are one-hot. Their products with the
    input weights are computed here, once per symbol: the kernel looks them up.
    """
    upper: list[Tensor] = []
    if isinstance(rnn, StackedRNNScratch):
        layers: list[Any] = [*rnn.rnns]
        W_x, *upper = (layer.W_xh for layer in layers)
        W_h, b = torch.stack([layer.W_hh for layer in layers]), torch.stack([layer.b_h for layer in layers])
    elif isinstance(rnn, GRUScratch | LSTMScratch):
        order_x, order_h = ("rzh", "hrz") if isinstance(rnn, GRUScratch) else ("ifoc", "ifoc")
        parts = ("W_x", order_x), ("W_h", order_h), ("b_", order_x)
        W_x, W_h, b = (torch.cat([getattr(rnn, name + gate) for gate in order], -1) for name, order in parts)
        W_h, b = W_h[None], b[None]
    else:  # views: copies would take a tenth of the time of the book's step
        W_x, W_h, b = rnn.W_xh, rnn.W_hh[None], rnn.b_h[None]
    W_up = torch.stack(upper) if upper else W_h.new_empty(0, *W_h.shape[1:])
    return W_x if vectors_VD is None else vectors_VD @ W_x, W_up, W_h, b

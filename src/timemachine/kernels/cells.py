"""The cells that the fused kernel supports, and their weights as it reads them.

L layers, G gates, H hidden units, V symbols of the inputs.
"""

from typing import Any

import torch
from torch import Tensor, nn

from timemachine.cells import GRUScratch, LSTMScratch, StackedRNNScratch
from timemachine.kernels import FUSED_CELLS
from timemachine.rnn import RNNScratch

# The gates of a layer, whose weights are W_x…, W_h…, b_…, in the kernel's order.
GATES: dict[type[nn.Module], str] = {RNNScratch: "h", GRUScratch: "rzh", LSTMScratch: "ifoc"}


def layers_of(rnn: Any) -> list[Any]:
    """Return the layers of a stacked RNN, or the cell itself."""
    return [*rnn.rnns] if type(rnn) is StackedRNNScratch else [rnn]


def fused_cell(rnn: nn.Module) -> str | None:
    """Return the cell of `kernels.FUSED_CELLS` that computes the same as the module; None for any other module."""
    # `type`, not isinstance: a subclass may compute something else.
    names = {GRUScratch: "gru", LSTMScratch: "lstm"}
    cells = {layer.activation if type(layer) is RNNScratch else names.get(type(layer)) for layer in layers_of(rnn)}
    cell = cells.pop()
    return cell if not cells and cell in FUSED_CELLS else None


def has_parameters(rnn: nn.Module) -> bool:
    """Return whether all weights of a cell of `GATES` are parameters: in pruning, a hook computes some of them."""
    return all(
        type(getattr(layer, part + gate)) is nn.Parameter
        for layer in layers_of(rnn)
        for gate in GATES.get(type(layer), "")
        for part in ("W_x", "W_h", "b_")
    )


def recurrent_weights(rnn: nn.Module, vectors_VD: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the W_x (V, G·H), W_up (L - 1, H, G·H), W_h (L, H, G·H) and b (L, G·H) of `fused.Weights`.

    `vectors_VD`: the vectors that the cell reads for the symbols; None if they are one-hot. Their products with the
    input weights are computed here, once per symbol: the kernel looks them up.
    """
    layers = layers_of(rnn)
    order = GATES[type(layers[0])]

    def joined(part: str, gates: str) -> list[Tensor]:
        # The weights themselves where possible, since copies take a twentieth of the time of the book's step.
        several = len(gates) > 1
        return [
            torch.cat([getattr(layer, part + gate) for gate in gates], -1) if several else getattr(layer, part + gates)
            for layer in layers
        ]

    (W_x, *upper), biases = joined("W_x", order), joined("b_", order)
    states = joined("W_h", "hrz" if order == "rzh" else order)
    W_h, b = (torch.stack(each) if upper else each[0][None] for each in (states, biases))
    W_up = torch.stack(upper) if upper else W_h.new_empty(0, *W_h.shape[1:])
    return W_x if vectors_VD is None else vectors_VD @ W_x, W_up, W_h, b

"""RNNScratch: the book's recurrence, as a readable loop or through `bptt`.

T time steps, B batch, D inputs (V with one-hot inputs), H hidden units.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timemachine.bptt import recurrence

ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


class RNNScratch(nn.Module):
    """H_t = φ(X_t W_xh + H_{t-1} W_hh + b_h), equation (9.4.5) of the book.

    Parameters: `W_xh` (D, H), `W_hh` (H, H) drawn from N(0, sigma²), `b_h` (H) zero. `activation`: tanh or relu.
    `backward`: bptt, by hand and fast, or autograd, a loop that PyTorch differentiates. Both compute the same.
    """

    def __init__(
        self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, activation: str = "tanh", backward: str = "bptt"
    ) -> None:
        super().__init__()
        self.num_inputs, self.num_hiddens = num_inputs, num_hiddens
        self.activation, self.backward_by = activation, backward
        self.W_xh = nn.Parameter(torch.randn(num_inputs, num_hiddens) * sigma)
        self.W_hh = nn.Parameter(torch.randn(num_hiddens, num_hiddens) * sigma)
        self.b_h = nn.Parameter(torch.zeros(num_hiddens))

    def forward(self, inputs: Tensor, H_BH: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Inputs and the state before them, zero if None, to all hidden states (T, B, H) and the last one (B, H).

        `inputs`: vectors (T, B, D), or indices (T, B) that stand for one-hot vectors.
        """
        if self.backward_by == "bptt":
            return recurrence(inputs, self.W_xh, self.W_hh, self.b_h, H_BH, self.activation)
        inputs_TBD = inputs if inputs.is_floating_point() else F.one_hot(inputs, self.num_inputs).to(self.W_xh.dtype)
        if H_BH is None:
            H_BH = inputs_TBD.new_zeros(inputs_TBD.shape[1], self.num_hiddens)
        outputs = []
        for X_BD in inputs_TBD:
            H_BH = ACTIVATIONS[self.activation](X_BD @ self.W_xh + H_BH @ self.W_hh + self.b_h)
            outputs.append(H_BH)
        return torch.stack(outputs), H_BH

"""Possible additions: a cell for `timemachine.rnn.CELLS`, and two activations.

T time steps, B batch, D inputs, H hidden units, S numbers of a state.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timemachine.config import Activation as Name
from timemachine.rnn import ACTIVATIONS


class LSTM(nn.Module):
    """Long short-term memory, equations (10.1.1) to (10.1.5); a state is output and memory side by side, S = 2H."""

    def __init__(self, num_inputs: int, num_hiddens: int, sigma: float = 0.01) -> None:
        super().__init__()
        self.num_hiddens = num_hiddens
        self.W_x = nn.Parameter(torch.randn(num_inputs, 4 * num_hiddens) * sigma)
        self.W_h = nn.Parameter(torch.randn(num_hiddens, 4 * num_hiddens) * sigma)
        self.b = nn.Parameter(torch.zeros(4 * num_hiddens))

    def forward(self, X_TBD: Tensor, state_BS: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return outputs (T, B, H) and the last state (B, 2H), from vectors (T, B, D)."""
        if state_BS is None:
            state_BS = X_TBD.new_zeros(X_TBD.shape[1], 2 * self.num_hiddens)
        H_BH, C_BH = state_BS.chunk(2, 1)
        outputs = []
        for X_BG in X_TBD @ self.W_x + self.b:
            gates_BG, candidate_BH = (X_BG + H_BH @ self.W_h).split([3 * self.num_hiddens, self.num_hiddens], 1)
            I_BH, F_BH, O_BH = gates_BG.sigmoid().chunk(3, 1)
            C_BH = F_BH * C_BH + I_BH * candidate_BH.tanh()
            H_BH = O_BH * C_BH.tanh()
            outputs.append(H_BH)
        return torch.stack(outputs), torch.cat([H_BH, C_BH], 1)


_Added = Enum("_Added", ["gelu", "silu"])
ADDED = {"gelu": F.gelu, "silu": F.silu}


@contextmanager
def without_slope() -> Iterator[None]:
    """Add `model.activation=gelu` and `silu`, for which the kernels have no derivative."""
    with pytest.MonkeyPatch.context() as patch:
        for name, row in ADDED.items():
            patch.setitem(ACTIVATIONS, name, row)
            patch.setitem(Name._member_map_, name, _Added[name])
        yield

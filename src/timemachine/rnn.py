"""RNNScratch: the book's recurrence, a loop over time steps; CELLS, the registry of cells.

T time steps, B batch, D inputs (V with one-hot inputs), H hidden units.
"""

import inspect
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from timemachine.config import require

# model.activation -> φ. To add one, add a row here and its name to `config.MODEL`.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
}


class RNNScratch(nn.Module):
    """H_t = φ(X_t W_xh + H_{t-1} W_hh + b_h), equation (9.4.5) of the book.

    Parameters: `W_xh` (D, H) drawn from N(0, sigma²), `W_hh` (H, H) from N(0, sigma_hh²), sigma_hh = sigma by default,
    `b_h` (H) zero. `activation`: a name in `ACTIVATIONS`.
    """

    def __init__(
        self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, activation: str = "tanh",
        sigma_hh: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_hiddens, self.activation = num_hiddens, activation
        self.W_xh = nn.Parameter(torch.randn(num_inputs, num_hiddens) * sigma)
        self.W_hh = nn.Parameter(torch.randn(num_hiddens, num_hiddens) * (sigma if sigma_hh is None else sigma_hh))
        self.b_h = nn.Parameter(torch.zeros(num_hiddens))

    def forward(self, inputs_TBD: Tensor, H_BH: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return all hidden states (T, B, H) and the last one (B, H). `H_BH`: the initial state, zero if None."""
        phi = ACTIVATIONS[self.activation]
        if H_BH is None:
            H_BH = inputs_TBD.new_zeros(inputs_TBD.shape[1], self.num_hiddens)
        outputs = []
        for X_BD in inputs_TBD:
            H_BH = phi(X_BD @ self.W_xh + H_BH @ self.W_hh + self.b_h)
            outputs.append(H_BH)
        return torch.stack(outputs), H_BH


# model.cell -> class; `cells` adds those of chapter 10. `Cell(num_inputs, num_hiddens, sigma, …)` receives the other
# settings of `model.` that it has parameters for; `forward(inputs_TBD, state_BS)` returns (T, B, H) and a state (B, S).
CELLS: dict[str, type[nn.Module]] = {"rnn": RNNScratch}


def build_cell(name: str, num_inputs: int, num_hiddens: int, sigma: float, **settings: Any) -> nn.Module:
    """Build the cell that `model.cell` names.

    `settings`: those of `model.` that some of the cells have, such as `activation`. Raises SettingError for a name not
    in `CELLS`, and for a setting that this cell lacks, unless it has its default value.
    """
    require(isinstance(name, str) and name in CELLS, "model.cell", name, f"must be one of {', '.join(CELLS)}")
    parameters = inspect.signature(CELLS[name]).parameters
    defaults = {p.name: p.default for cell in CELLS.values() for p in inspect.signature(cell).parameters.values()}
    for setting, value in settings.items():
        is_read = setting in parameters or value == defaults.get(setting)
        require(is_read, f"model.{setting}", value, f"not supported by model.cell={name}; remove it")
    return CELLS[name](num_inputs, num_hiddens, sigma, **{k: v for k, v in settings.items() if k in parameters})


def input_weights(cell: nn.Module) -> list[nn.Parameter]:
    """Return the input weights: parameters of the cell, or of its first layer, with names that start with W_x."""
    return [p for name, p in cell.named_parameters() if re.match(r"(rnns\.0\.)?W_x", name)]

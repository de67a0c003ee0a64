"""Chapter 10 of the book: the gated cells and the deep RNN, from scratch, with the interface of `RNNScratch`.

T time steps, B batch, D inputs, H hidden units, L layers, G = 3H or 4H size of all gates, S size of a state.

The products with the inputs do not depend on the state, so they are computed for all time steps before the loop; each
step then multiplies the state by the weights of all gates at once.
"""

import inspect
import re
from typing import Any

import torch
from torch import Tensor, nn

from timemachine.config import require
from timemachine.rnn import RNNScratch, recurrent_weights


class LSTMScratch(nn.Module):
    """Long short-term memory, equations (10.1.1) to (10.1.4) of the book.

    Input, forget and output gate and the input node each have weights `W_x` (D, H) drawn from N(0, sigma_xh²), sigma by
    default, and `W_h` (H, H) from N(0, sigma²), and a bias (H) of zero: W_xi, W_hi, b_i; W_xf, …; W_xo, …; W_xc, ….
    `init_hh`: as of `RNNScratch`, for each W_h separately.
    `forget_bias`: initial b_f; with 1 the memory lasts longer from the start (Jozefowicz, Zaremba and Sutskever, 2015).
    A state is the concatenation of the output H and the memory C, S = 2H. `torch.nn.LSTM` computes the same if its
    `bias_hh` is zero; its gates are in the order i, f, c, o.
    """

    def __init__(
        self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, forget_bias: float = 0.0,
        sigma_xh: float | None = None, init_hh: str = "gaussian",
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_hiddens = num_hiddens
        self.W_xi, self.W_hi, self.b_i = _gate(num_inputs, num_hiddens, sigma, sigma_xh, init_hh)  # input gate
        self.W_xf, self.W_hf, self.b_f = _gate(num_inputs, num_hiddens, sigma, sigma_xh, init_hh)  # forget gate
        self.W_xo, self.W_ho, self.b_o = _gate(num_inputs, num_hiddens, sigma, sigma_xh, init_hh)  # output gate
        self.W_xc, self.W_hc, self.b_c = _gate(num_inputs, num_hiddens, sigma, sigma_xh, init_hh)  # input node
        nn.init.constant_(self.b_f, forget_bias)

    def forward(self, inputs_TBD: Tensor, state_BS: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return all outputs (T, B, H) and the last state (B, 2H). `state_BS`: the initial state, zero if None."""
        W_DG = torch.cat([self.W_xi, self.W_xf, self.W_xo, self.W_xc], 1)
        W_HG = torch.cat([self.W_hi, self.W_hf, self.W_ho, self.W_hc], 1)
        b_G = torch.cat([self.b_i, self.b_f, self.b_o, self.b_c])
        if state_BS is None:
            state_BS = inputs_TBD.new_zeros(inputs_TBD.shape[1], 2 * self.num_hiddens)
        H_BH, C_BH = state_BS.chunk(2, 1)
        outputs = []
        for X_BG in inputs_TBD @ W_DG + b_G:
            gates_BG, node_BH = torch.split(X_BG + H_BH @ W_HG, [3 * self.num_hiddens, self.num_hiddens], 1)
            I_BH, F_BH, O_BH = gates_BG.sigmoid().chunk(3, 1)
            C_BH = F_BH * C_BH + I_BH * node_BH.tanh()
            H_BH = O_BH * C_BH.tanh()
            outputs.append(H_BH)
        return torch.stack(outputs), torch.cat([H_BH, C_BH], 1)


class GRUScratch(nn.Module):
    """Gated recurrent unit, equations (10.2.1) to (10.2.3) of the book, with the reset gate after the product.

    The reset gate multiplies H W_hh, as in cuDNN and `torch.nn.GRU`, so that a step needs one product with the state.
    In equation (10.2.2) it multiplies H. Reset gate, update gate and candidate each have weights `W_x` (D, H) drawn
    from N(0, sigma_xh²), sigma by default, and `W_h` (H, H) from N(0, sigma²), and a bias (H) of zero: W_xr, W_hr, b_r;
    W_xz, …; W_xh, …. `init_hh`: as of `RNNScratch`, for each W_h separately. A state is the output, S = H.
    `torch.nn.GRU` computes the same if its `bias_hh` is zero; its gates are in the order r, z, h.
    """

    def __init__(
        self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, sigma_xh: float | None = None,
        init_hh: str = "gaussian",
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_hiddens = num_hiddens
        self.W_xr, self.W_hr, self.b_r = _gate(num_inputs, num_hiddens, sigma, sigma_xh, init_hh)  # reset gate
        self.W_xz, self.W_hz, self.b_z = _gate(num_inputs, num_hiddens, sigma, sigma_xh, init_hh)  # update gate
        self.W_xh, self.W_hh, self.b_h = _gate(num_inputs, num_hiddens, sigma, sigma_xh, init_hh)  # candidate

    def forward(self, inputs_TBD: Tensor, H_BH: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return all outputs (T, B, H) and the last one (B, H). `H_BH`: the initial state, zero if None."""
        W_DG = torch.cat([self.W_xr, self.W_xz, self.W_xh], 1)
        W_HG = torch.cat([self.W_hr, self.W_hz, self.W_hh], 1)
        b_G = torch.cat([self.b_r, self.b_z, self.b_h])
        if H_BH is None:
            H_BH = inputs_TBD.new_zeros(inputs_TBD.shape[1], self.num_hiddens)
        sizes = [2 * self.num_hiddens, self.num_hiddens]
        outputs = []
        for X_BG in inputs_TBD @ W_DG + b_G:
            gates_BG, input_BH = torch.split(X_BG, sizes, 1)
            from_H_BG, from_H_BH = torch.split(H_BH @ W_HG, sizes, 1)
            R_BH, Z_BH = (gates_BG + from_H_BG).sigmoid().chunk(2, 1)
            candidate_BH = torch.addcmul(input_BH, R_BH, from_H_BH).tanh()
            H_BH = candidate_BH.lerp(H_BH, Z_BH)  # Z * H + (1 - Z) * candidate
            outputs.append(H_BH)
        return torch.stack(outputs), H_BH


class StackedRNNScratch(nn.Module):
    """A deep RNN, equation (10.3.1) of the book.

    `rnns`: L layers of `RNNScratch`; each reads the states of the layer below. `sigma_xh` is of the first layer, which
    reads the tokens, and `init_hh` of all layers. A state is the concatenation of the states of all layers, from first
    to last, S = L·H.
    """

    def __init__(
        self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, activation: str = "tanh", layers: int = 2,
        sigma_xh: float | None = None, init_hh: str = "gaussian",
    ) -> None:  # fmt: skip
        super().__init__()
        first = RNNScratch(num_inputs, num_hiddens, sigma, activation, sigma_xh=sigma_xh, init_hh=init_hh)
        upper = (RNNScratch(num_hiddens, num_hiddens, sigma, activation, init_hh=init_hh) for _ in range(layers - 1))
        self.rnns = nn.ModuleList([first, *upper])

    def forward(self, inputs_TBD: Tensor, state_BS: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the last layer's states (T, B, H) and all layers' last states (B, L·H). `state_BS`: zero if None."""
        before = [None] * len(self.rnns) if state_BS is None else state_BS.chunk(len(self.rnns), 1)
        after = []
        for rnn, H_BH in zip(self.rnns, before, strict=True):
            inputs_TBD, H_BH = rnn(inputs_TBD, H_BH)  # (T, B, H) after the first layer
            after.append(H_BH)
        return inputs_TBD, torch.cat(after, 1)


def _gate(
    num_inputs: int, num_hiddens: int, sigma: float, sigma_xh: float | None, init_hh: str
) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter]:
    """Return the weights of the input (D, H) and of the state (H, H), and the bias (H) of a gate."""
    W_DH = torch.randn(num_inputs, num_hiddens) * (sigma if sigma_xh is None else sigma_xh)
    W_HH = recurrent_weights(num_hiddens, sigma, init_hh)
    return nn.Parameter(W_DH), W_HH, nn.Parameter(torch.zeros(num_hiddens))


# model.cell -> class. `Cell(num_inputs, num_hiddens, sigma, …)` receives the other settings of `model.` that it has
# parameters for; `forward(inputs_TBD, state_BS)` returns (T, B, H) and a state (B, S).
CELLS: dict[str, type[nn.Module]] = {
    "rnn": RNNScratch,
    "lstm": LSTMScratch,
    "gru": GRUScratch,
    "deep_rnn": StackedRNNScratch,
}


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

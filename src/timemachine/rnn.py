"""RNNScratch: the book's recurrence, as a readable loop or through `kernels.bptt`.

T time steps, B batch, D inputs (V with one-hot inputs), H hidden units.
"""

import inspect

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from timemachine.config import OF_ANY_CELL, Input, Model, require, to_dict
from timemachine.errors import SettingError
from timemachine.kernels.activations import ACTIVATIONS
from timemachine.kernels.bptt import recurrence


class RNNScratch(nn.Module):
    """H_t = φ(X_t W_xh + H_{t-1} W_hh + b_h), equation (9.4.5) of the book.

    Parameters: `W_xh` (D, H) drawn from N(0, sigma²), `W_hh` (H, H) from N(0, sigma_hh²), of the same sigma by default,
    `b_h` (H) zero. `activation`: a name in `ACTIVATIONS`. `backward`: autograd, a loop that PyTorch differentiates, or
    else by hand, and fast. Both compute the same, but under autocast it is always the loop; with its loss, in
    `RNNLMScratch`, there is a third way. By default by hand, or autograd for a φ that has no φ' there. Raises
    SettingError for what an argument may not be.
    """

    def __init__(
        self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, activation: str = "tanh", backward: str = "auto",
        sigma_hh: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        Model(hiddens=num_hiddens, sigma=sigma, sigma_hh=sigma_hh, activation=activation, backward=backward)  # type: ignore[arg-type]
        if ACTIVATIONS[activation].times_derivative_ is None:
            rule = f"is by hand, and model.activation={activation} has no φ' in kernels/activations.py"
            require(backward in ("auto", "autograd"), "model.backward", backward, rule, "autograd")
            backward = "autograd"
        self.num_hiddens, self.activation, self.backward_by = num_hiddens, activation, backward
        self.W_xh = nn.Parameter(torch.randn(num_inputs, num_hiddens) * sigma)
        self.W_hh = nn.Parameter(torch.randn(num_hiddens, num_hiddens) * (sigma if sigma_hh is None else sigma_hh))
        self.b_h = nn.Parameter(torch.zeros(num_hiddens))

    def forward(self, inputs: Tensor, H_BH: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return all hidden states (T, B, H) and the last one (B, H).

        `inputs`: vectors (T, B, D), or indices (T, B) that stand for one-hot vectors. `H_BH`: the state before them,
        zero if None.
        """
        if self.backward_by != "autograd" and not torch.is_autocast_enabled(self.W_xh.device.type):
            return recurrence(inputs, self.W_xh, self.W_hh, self.b_h, H_BH, self.activation)
        phi = ACTIVATIONS[self.activation].phi
        inputs_TBD = as_vectors(inputs, self.W_xh)
        if H_BH is None:
            H_BH = inputs_TBD.new_zeros(inputs_TBD.shape[1], self.num_hiddens)
        outputs = []
        for X_BD in inputs_TBD:
            H_BH = phi(X_BD @ self.W_xh + H_BH @ self.W_hh + self.b_h)
            outputs.append(H_BH)
        return torch.stack(outputs), H_BH

    the_books = (forward,)  # for which a kernel may stand in, as long as no other takes its place


def as_vectors(inputs: Tensor, W_xh: Tensor) -> Tensor:
    """Return vectors (T, B, D) in the dtype of `W_xh` (D, H): the inputs, or one-hot vectors if they are indices."""
    return inputs if inputs.is_floating_point() else F.one_hot(inputs, len(W_xh)).to(W_xh.dtype)


# model.cell -> its class. `Cell(num_inputs, num_hiddens, sigma, …)` is given each setting of `model.` that it names;
# `forward(inputs, state)` gives outputs (T, B, H) and one state tensor (B, S), as above.
CELLS: dict[str, type[nn.Module]] = {
    "rnn": RNNScratch,
}


def build_cell(network: Model, num_inputs: int) -> nn.Module:
    """Return a new cell of the class that `model.cell` names.

    Raise SettingError for a name that is not in `CELLS`, and for a setting not at its default that has no effect.
    """
    require(network.cell in CELLS, "model.cell", network.cell, f"must be one of {', '.join(CELLS)}", "rnn")
    cell, settings, defaults = CELLS[network.cell], to_dict(network), to_dict(Model())
    named = {name: value for name, value in settings.items() if name in {"sigma", *inspect.signature(cell).parameters}}
    for name, value in settings.items():
        if name not in OF_ANY_CELL | named.keys() and value != defaults[name]:
            raise SettingError(f"model.{name}={value}: model.cell={network.cell} does not read it; type it without")
    built = cell(num_inputs, network.hiddens, **named)
    has_effect = network.input is Input.embedding or network.input_lr_factor == 1 or bool(reading_weights(built))
    rule = f"model.cell={network.cell} has no weight whose name begins with W_x"
    require(has_effect, "model.input_lr_factor", network.input_lr_factor, rule, 1.0)
    return built


def reading_weights(cell: nn.Module) -> list[nn.Parameter]:
    """Return the weights that read the input: those whose name begins with W_x."""
    return [p for name, p in cell.named_parameters() if name.startswith("W_x")]

"""RNNScratch: the book's recurrence, a loop over time steps.

T time steps, B batch, D inputs (V with one-hot inputs), H hidden units.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

# model.activation -> φ. To add one, add a row here and its name to `config.MODEL`.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
}
# model.init_hh -> function that overwrites a drawn W_hh.
INIT_HH: dict[str, Callable[[Tensor], Tensor]] = {
    "gaussian": lambda W_HH: W_HH,
    "orthogonal": nn.init.orthogonal_,
    "identity": nn.init.eye_,
}


class RNNScratch(nn.Module):
    """H_t = φ(X_t W_xh + H_{t-1} W_hh + b_h), equation (9.4.5) of the book.

    Parameters: `W_xh` (D, H) drawn from N(0, sigma_xh²), `W_hh` (H, H) from N(0, sigma_hh²), both sigma by default, and
    `b_h` (H) zero. `activation`: a name in `ACTIVATIONS`. `init_hh`: W_hh is drawn as said (`gaussian`), a random
    orthogonal matrix (`orthogonal`), or the identity (`identity`).
    """

    def __init__(
        self, num_inputs: int, num_hiddens: int, sigma: float = 0.01, activation: str = "tanh",
        sigma_hh: float | None = None, sigma_xh: float | None = None, init_hh: str = "gaussian",
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_hiddens, self.activation = num_hiddens, activation
        self.W_xh = nn.Parameter(torch.randn(num_inputs, num_hiddens) * (sigma if sigma_xh is None else sigma_xh))
        self.W_hh = recurrent_weights(num_hiddens, sigma if sigma_hh is None else sigma_hh, init_hh)
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


def recurrent_weights(num_hiddens: int, sigma: float, init_hh: str) -> nn.Parameter:
    """Return weights (H, H) drawn from N(0, sigma²), or what `init_hh`, a name in `INIT_HH`, puts in their place."""
    return nn.Parameter(INIT_HH[init_hh](torch.randn(num_hiddens, num_hiddens) * sigma))

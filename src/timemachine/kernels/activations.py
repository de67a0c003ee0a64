"""The activations φ, a row each. The readable loop, bptt and decoding read these rows.

To add one, add a row here and its name to `config.Activation`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_tanh_backward = torch.ops.aten.tanh_backward.grad_input
_threshold_backward = torch.ops.aten.threshold_backward.grad_input


@dataclass(frozen=True, slots=True)
class Activation:
    """φ, and what makes it fast: φ in place, and its derivative.

    `times_derivative_(G, H)`: G ← G ⊙ φ'(Z) in place, from the output H = φ(Z); without it autograd differentiates φ,
    as of a φ that takes one value at two places, from which its slope cannot be told. `on_array`: φ in place on
    numpy's arrays, where that is faster on the CPU than torch's.
    """

    phi: Callable[[Tensor], Tensor]
    in_place: Callable[[Tensor], object] | None = None
    times_derivative_: Callable[[Tensor, Tensor], object] | None = None
    on_array: Callable[[NDArray[np.floating]], object] | None = None

    def apply_(self, Z: Tensor) -> None:
        """Set Z to φ(Z)."""
        self.in_place(Z) if self.in_place else Z.copy_(self.phi(Z))

    def apply_to_array_(self, Z: NDArray[np.floating]) -> None:
        """Set Z to φ(Z), on numpy's memory."""
        self.on_array(Z) if self.on_array else self.apply_(torch.from_numpy(Z))


ACTIVATIONS = {
    # numpy's tanh is on some machines ten times as fast as torch's, and never slower. 2·sigmoid(2x) − 1 is no
    # alternative: its absolute error of 1e-7 is a large relative one for the small states of a small sigma.
    "tanh": Activation(
        torch.tanh, torch.tanh_, lambda G, H: _tanh_backward(G, H, grad_input=G), lambda Z: np.tanh(Z, out=Z)
    ),
    "relu": Activation(torch.relu, torch.relu_, lambda G, H: _threshold_backward(G, H, 0, grad_input=G)),
}

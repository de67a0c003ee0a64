"""Activations of `rnn.ACTIVATIONS` that the kernels support, with one row each. Autograd differentiates the others.

A φ whose derivative is not a function of its output, such as GELU, cannot have a row.
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
    """φ in place, and its derivative.

    `times_derivative_(G, H)`: G ← G ⊙ φ'(Z) in place, from the output H = φ(Z). `on_array`: φ in place on numpy
    arrays, if that is faster than torch on the CPU.
    """

    apply_: Callable[[Tensor], object]
    times_derivative_: Callable[[Tensor, Tensor], object]
    on_array: Callable[[NDArray[np.floating]], object] | None = None

    def apply_to_array_(self, Z: NDArray[np.floating]) -> None:
        """Set Z to φ(Z) in place."""
        self.on_array(Z) if self.on_array else self.apply_(torch.from_numpy(Z))


BY_HAND = {
    # On some machines numpy's tanh is ten times as fast as torch's, and on none slower. 2·sigmoid(2x) − 1 is no
    # alternative: its absolute error of 1e-7 is a large relative one for the small states of a small sigma.
    "tanh": Activation(torch.tanh_, lambda G, H: _tanh_backward(G, H, grad_input=G), lambda Z: np.tanh(Z, out=Z)),
    "relu": Activation(torch.relu_, lambda G, H: _threshold_backward(G, H, 0, grad_input=G)),
}

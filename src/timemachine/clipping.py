"""Gradient clipping by the global norm, which is the norm of all gradients as one vector, from scratch."""

from collections.abc import Iterable

import torch
from torch import Tensor


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Return the global norm of the gradients: a float64 scalar, since the square of a float32 may overflow."""
    gradients = [p.grad.reshape(-1) for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros((), dtype=torch.float64)
    norm: Tensor = torch.linalg.vector_norm(torch.cat(gradients), dtype=torch.float64)
    return norm


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], theta: float | None) -> Tensor:
    """Project the gradients g onto the ball of radius θ, in place: g ← min(1, θ/‖g‖) g (equation 9.5.9 of the book).

    `theta`: the radius; 0 or None disables clipping. Returns ‖g‖ before clipping. Inside the ball g is unchanged, bit
    for bit. Raises ValueError for a negative radius.
    """
    if theta is not None and not theta >= 0:
        raise ValueError(f"theta={theta}: must be 0 or more")
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    norm = gradient_norm(parameters)
    if theta and (norm.device.type != "cpu" or norm > theta):  # comparing would force a GPU synchronization
        factor = (theta / norm).clamp(max=1.0)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
    return norm

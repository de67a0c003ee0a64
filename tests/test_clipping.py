import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from timemachine.clipping import clip_gradients

GRADIENTS = st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=6), min_size=1, max_size=4)
RADII = st.floats(1e-2, 1e4)


def parameters(gradients: list[list[float]]) -> list[nn.Parameter]:
    made = [nn.Parameter(torch.zeros(len(gradient))) for gradient in gradients]
    for parameter, gradient in zip(made, gradients, strict=True):
        parameter.grad = torch.tensor(gradient)
    return made


def flat_gradient(parameters: list[nn.Parameter]) -> Tensor:
    return torch.cat([p.grad for p in parameters if p.grad is not None])


@given(GRADIENTS, RADII)
def test_clipping_against_torch(gradients: list[list[float]], theta: float) -> None:
    """Gradients inside the ball are unchanged, bit for bit. Outside, the norm is set to the radius."""
    clipped, by_torch = parameters(gradients), parameters(gradients)
    before = flat_gradient(clipped)
    exact = math.hypot(*before.tolist())
    assert clip_gradients(clipped, theta).item() == pytest.approx(exact, rel=1e-12)
    if exact <= theta:
        assert torch.equal(flat_gradient(clipped).view(torch.int32), before.view(torch.int32))
    else:
        assert math.hypot(*flat_gradient(clipped).tolist()) == pytest.approx(theta, rel=1e-6)
    torch.nn.utils.clip_grad_norm_(by_torch, theta)
    # torch divides by ‖g‖ + 1e-6, which matters for a small radius
    torch.testing.assert_close(flat_gradient(clipped), flat_gradient(by_torch), rtol=1e-6 / theta + 1e-5, atol=1e-30)


@pytest.mark.parametrize("scale", [1e30, 1e-30], ids=["squares overflow", "squares underflow"])
def test_norms_beyond_float32_squares(scale: float) -> None:
    clipped = parameters([[3 * scale], [-4 * scale]])
    assert clip_gradients(clipped, scale).item() == pytest.approx(5 * scale, rel=1e-6)
    assert flat_gradient(clipped).tolist() == pytest.approx([0.6 * scale, -0.8 * scale], rel=1e-6, abs=0)


def test_parameters_without_a_gradient() -> None:
    bare, clipped = nn.Parameter(torch.ones(2)), parameters([[3.0, 4.0]])
    assert clip_gradients((p for p in [bare, *clipped]), 1.0).item() == 5
    assert bare.grad is None and clip_gradients([bare], 1.0).item() == 0

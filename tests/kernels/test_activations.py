"""Each row of ACTIVATIONS against the φ of its name in PyTorch, and that one's derivative by autograd."""

import pytest
import torch
import torch.nn.functional as F

from tests.support.activations import ADDED
from timemachine.kernels.activations import ACTIVATIONS

ROWS = ACTIVATIONS | ADDED


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_the_function_of_its_name_and_its_derivative(name: str, dtype: torch.dtype) -> None:
    row, phi = ROWS[name], getattr(torch, name, None) or getattr(F, name)
    Z = torch.linspace(-6, 6, 1000, dtype=dtype).requires_grad_()  # 0 is not among them
    H = phi(Z)
    G = torch.randn(1000, dtype=dtype)
    (expected,) = torch.autograd.grad(H, Z, G)
    in_place, array, H = Z.detach().clone(), Z.detach().clone().numpy(), H.detach()
    row.apply_(in_place)
    row.apply_to_array_(array)
    for found in (row.phi(Z.detach()), in_place, torch.from_numpy(array)):
        torch.testing.assert_close(found, H)
    if row.times_derivative_ is not None:
        row.times_derivative_(G, H)
        # From the output, where 1 - h² cancels: of the size of G rather than of the product.
        torch.testing.assert_close(G, expected, rtol=1e-5, atol=100 * torch.finfo(dtype).eps)

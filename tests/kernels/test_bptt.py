"""The handwritten backward pass, compared with autograd of the readable loop."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot

from timemachine.kernels.activations import BY_HAND
from timemachine.kernels.bptt import recurrence
from timemachine.rnn import RNNScratch


def by_hand(rnn: RNNScratch, X_TB: Tensor, H_BH: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return recurrence(X_TB, rnn.W_xh, rnn.W_hh, rnn.b_h, H_BH, rnn.activation)


@given(st.integers(1, 6), st.integers(1, 5), st.sampled_from([*BY_HAND]), st.booleans(), st.integers())
def test_recurrence_against_autograd(T: int, B: int, phi: str, has_state: bool, seed: int) -> None:
    torch.manual_seed(seed % 2**32)
    rnn = RNNScratch(7, 5, 0.5, phi).double()
    torch.nn.init.normal_(rnn.b_h)
    X_TB = torch.randint(7, (T, B))
    state = torch.randn(B, 5, dtype=torch.float64) if has_state else None
    weight_TBH, weight_BH = torch.randn(T, B, 5, dtype=torch.float64), torch.randn(B, 5, dtype=torch.float64)
    results = []
    for is_by_hand in (True, False):
        h = None if state is None else state.clone().requires_grad_()
        H_TBH, H_BH = by_hand(rnn, X_TB, h) if is_by_hand else rnn(one_hot(X_TB, 7).double(), h)
        leaves = [*rnn.parameters(), *([] if h is None else [h])]
        # Use both outputs in the loss. The last state has weight 2.
        loss = (H_TBH * weight_TBH).sum() + (H_BH * weight_BH).sum()
        results.append([H_TBH, H_BH, *torch.autograd.grad(loss, leaves)])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-12)


def test_second_derivative() -> None:
    rnn = RNNScratch(5, 4, 0.5)
    H_TBH, _ = by_hand(rnn, torch.randint(5, (3, 2)))
    with pytest.raises(RuntimeError, match="backward='autograd'"):
        torch.autograd.grad(H_TBH.square().sum(), [rnn.W_hh], create_graph=True)

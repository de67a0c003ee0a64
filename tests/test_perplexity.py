import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from timemachine.perplexity import Perplexity

PARTS = st.lists(st.lists(st.floats(0, 100, width=32), max_size=5), min_size=1, max_size=6)


def of(*parts: Tensor) -> Perplexity:
    perplexity = Perplexity()
    for nll in parts:
        perplexity.update(nll)
    return perplexity


@given(PARTS)
def test_updates_and_merges(parts: list[list[float]]) -> None:
    tensors = [torch.tensor(part) for part in parts]
    merged = Perplexity()
    merged.update(torch.zeros(0))
    for tensor in tensors:
        merged.merge_state(of(tensor))
    tokens = [value for part in parts for value in part]
    exact = math.exp(math.fsum(tokens) / len(tokens)) if tokens else math.nan
    for perplexity in (of(*tensors), of(torch.cat(tensors)), merged):
        assert perplexity.compute().item() == pytest.approx(exact, rel=1e-9, nan_ok=True)


def test_float64_in_a_float16_model() -> None:
    perplexity = torch.nn.ModuleList([Perplexity()]).half()[0]
    assert isinstance(perplexity, Perplexity)
    perplexity.update(torch.full((10**5,), 0.25, dtype=torch.float16))
    perplexity.update(torch.tensor([1.0]))
    assert perplexity.compute().item() == pytest.approx(math.exp(25001 / 100001), rel=1e-12)

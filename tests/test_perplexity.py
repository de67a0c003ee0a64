import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.text import Perplexity as TorchmetricsPerplexity

from timemachine.perplexity import BitsPerByte, Perplexity

PARTS = st.lists(st.lists(st.floats(0, 100, width=32), max_size=5), min_size=1, max_size=6)


def of(*parts: Tensor) -> Perplexity:
    perplexity = Perplexity()
    for nll in parts:
        perplexity.update(nll)
    return perplexity


def nll(logits_BTV: Tensor, Y_BT: Tensor) -> Tensor:
    return F.cross_entropy(logits_BTV.transpose(1, 2), Y_BT, reduction="none")


def test_perplexity_against_torchmetrics() -> None:
    torch.manual_seed(0)
    theirs, ours = TorchmetricsPerplexity(), Perplexity()
    for B in (4, 1):  # the last batch is smaller
        logits_BTV, Y_BT = torch.randn(B, 8, 28), torch.randint(28, (B, 8))
        theirs.update(logits_BTV, Y_BT)
        ours.update(nll(logits_BTV, Y_BT))
    assert ours.compute().item() == pytest.approx(theirs.compute().item(), rel=1e-5)


def test_finite_where_torchmetrics_is_not() -> None:
    logits_BTV, Y_BT = torch.tensor([[[200.0, 0.0]]]), torch.tensor([[1]])
    theirs = TorchmetricsPerplexity()
    theirs.update(logits_BTV, Y_BT)
    assert theirs.compute().isinf()
    assert of(nll(logits_BTV, Y_BT)).compute().item() == pytest.approx(math.exp(200))


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


TOKENS = st.lists(st.tuples(st.floats(0, 100, width=32), st.integers(0, 3)), max_size=5)


@given(st.lists(TOKENS, min_size=1, max_size=6), st.lists(st.integers(1, 9), min_size=4, max_size=4))
def test_bits_per_byte(parts: list[list[tuple[float, int]]], sizes: list[int]) -> None:
    """Compare several updates, a single update, and sums merged across processes."""
    bytes_V, tokens = torch.tensor(sizes), [token for part in parts for token in part]
    merged, several, one = BitsPerByte(), BitsPerByte(), BitsPerByte()
    merged.update(torch.zeros(0), torch.zeros(0, dtype=torch.int64), bytes_V)
    for metric, batches in ((several, parts), (one, [tokens]), *((None, [part]) for part in parts)):
        own = BitsPerByte() if metric is None else metric
        for batch in batches:
            nlls, indices = [nll for nll, _ in batch], [index for _, index in batch]
            own.update(torch.tensor(nlls), torch.tensor(indices, dtype=torch.int64), bytes_V)
        if metric is None:
            merged.merge_state(own)
    num_bytes = sum(sizes[index] for _, index in tokens)
    exact = math.fsum(nll / math.log(2) for nll, _ in tokens) / num_bytes if tokens else math.nan
    for metric in (merged, several, one):
        assert metric.compute().dtype == torch.float64
        assert metric.compute().item() == pytest.approx(exact, rel=1e-9, nan_ok=True)

"""Perplexity and bits per byte as torchmetrics Metrics, evaluation mode, and a unigram baseline.

N characters, V vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from timemachine.datamodule import TimeMachine
from timemachine.vocab import AT_ONCE, Vocab

F = TypeVar("F", bound=Callable[..., Any])


def in_evaluation_mode(function: F) -> F:
    """Make a function of a model run in evaluation mode without gradients; restore each module's mode afterwards."""

    @wraps(function)
    @torch.no_grad()
    def call(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        training = [module for module in model.modules() if module.training]
        model.eval()
        try:
            return function(model, *args, **kwargs)
        finally:
            for module in training:
                module.training = True

    return cast(F, call)


class MeanNLL(Metric):
    """Σ NLL / Σ count over all updates and all processes; a subclass defines the count and the unit.

    The sum is float64 and the count int64; torchmetrics.text.Perplexity has float32 sums, which drift.
    """

    full_state_update = False
    higher_is_better = False
    nll: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("nll", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        # torchmetrics counts updates in an int, and torch.compile would recompile a step for each value.
        self.update = torch.compiler.disable(self.update)  # type: ignore[method-assign, no-untyped-call]

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        """Move to another device, but keep float64: `module.to(torch.bfloat16)` casts the metrics of a module too."""
        return super()._apply(lambda state: state.to(fn(state).device), exclude_state)


class Perplexity(MeanNLL):
    """exp(Σ NLL / Σ tokens) (equation 9.3.7 of the book).

    Updates take NLLs: torchmetrics.text.Perplexity takes the logarithm of a softmax, which may be infinite where the
    cross-entropy is finite.
    """

    def update(self, nll: Tensor) -> None:
        """Add negative log-likelihoods of tokens, in nats, of any shape; may be empty."""
        self.nll += nll.sum(dtype=torch.float64)
        self.count += nll.numel()

    def compute(self) -> Tensor:
        """Return the perplexity: 0-dimensional, float64; NaN before the first token."""
        return torch.exp(self.nll / self.count)


class BitsPerByte(MeanNLL):
    """Σ NLL / ln 2 / Σ bytes of the tokens in UTF-8: comparable across vocabularies."""

    def update(self, nll: Tensor, token: Tensor, bytes_V: Tensor) -> None:
        """Add negative log-likelihoods of tokens, in nats, and their indices, of the same shape; may be empty.

        `bytes_V`: the number of bytes of each token, as in `Vocab.bytes_V`.
        """
        self.nll += nll.sum(dtype=torch.float64)
        self.count += bytes_V.to(token.device).take(token).sum()  # faster than bytes_V[token]

    def compute(self) -> Tensor:
        """Return the bits per byte: 0-dimensional, float64; NaN before the first token."""
        return self.nll / math.log(2) / self.count


def num_bytes(index_N: Tensor, targets: range, vocab: Vocab) -> int:
    """Return the number of UTF-8 bytes of targets in the indices of a text (N,), with `<unk>` as one byte."""
    count_V = _counts(index_N[targets.start : targets.stop].cpu(), len(vocab))
    return int(count_V @ vocab.bytes_V.double())


def num_unknown_bytes(text: str, index_N: Tensor, vocab: Vocab) -> int:
    """Return the number of UTF-8 bytes of the characters of a text that are `<unk>` in its indices (N,)."""
    parts = (text[start : start + AT_ONCE] for start in range(0, len(text), AT_ONCE))
    known = num_bytes(index_N, range(len(index_N)), vocab) - int((index_N == vocab.unk).sum())
    return sum(len(part.encode(errors="replace")) for part in parts) - known


def unigram_perplexity(data: TimeMachine, split: str) -> float:
    """Return the perplexity of the characters that a split's windows predict, each once, under the frequencies of the
    training characters, with one added to each count.
    """
    starts, stop = data.splits[split].starts, data.splits["train"].targets.stop
    predicted_N = data.tokens_N[starts.start + 1 : starts.stop + data.num_steps]
    known_V = _counts(data.tokens_N[:stop], len(data.vocab)) + 1
    known_V[data.vocab.unk] *= data.vocab.num_unknown > 0  # most texts have no such character
    predicted_V = _counts(predicted_N, len(data.vocab))
    log_p = predicted_V.xlogy(known_V).sum() / predicted_V.sum() - known_V.sum().log()
    return math.exp(-log_p)


def _counts(index_N: Tensor, size: int) -> Tensor:
    """Return how often each index occurs (V,), float64; counts in parts, since `bincount` copies its input to int64."""
    count_V = index_N[:0].bincount(minlength=size)
    for start in range(0, len(index_N), 1 << 24):
        count_V += index_N[start : start + (1 << 24)].bincount(minlength=size)
    return count_V.double()

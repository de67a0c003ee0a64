"""Perplexity and bits per byte as a torchmetrics Metric, and evaluation mode.

N tokens, V vocabulary.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from timemachine.vocab import Vocab

F = TypeVar("F", bound=Callable[..., Any])


def in_evaluation_mode(function: F) -> F:
    """Decorate a function of a model, its first argument, to run in evaluation mode, without gradients."""

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


class Perplexity(Metric):
    """exp(Σ NLL / Σ tokens) over all updates and all processes (equation 9.3.7 of the book), and bits per byte.

    Updates take NLLs: torchmetrics.text.Perplexity takes the logarithm of a softmax, which may be infinite where the
    cross-entropy is finite. The sum is float64 and the count int64; torchmetrics has float32 sums, which drift.
    """

    full_state_update = False
    higher_is_better = False
    nll: Tensor
    count: Tensor
    size: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("nll", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("size", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        # torchmetrics counts updates in an int, and torch.compile would recompile a step for each value.
        self.update = torch.compiler.disable(self.update)  # type: ignore[method-assign, no-untyped-call]

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        """Move to another device, but keep float64: `module.to(torch.bfloat16)` casts the metrics of a module too."""
        return super()._apply(lambda state: state.to(fn(state).device), exclude_state)

    def update(self, nll: Tensor, num_bytes: Tensor | int = 0) -> None:
        """Add negative log-likelihoods of tokens, in nats, of any shape; may be empty. `num_bytes`: of these tokens."""
        self.nll += nll.sum(dtype=torch.float64)
        self.count += nll.numel()
        self.size += num_bytes

    def compute(self) -> Tensor:
        """Return the perplexity: 0-dimensional, float64; NaN before the first token."""
        return torch.exp(self.nll / self.count)

    def bits_per_byte(self) -> Tensor:
        """Return Σ NLL / ln 2 / Σ bytes, to compare vocabularies: 0-dimensional, float64; inf without bytes."""
        with self.sync_context():  # the sums of all processes, as in `compute`
            return self.nll / math.log(2) / self.size


def num_bytes(index_N: Tensor, targets: range, vocab: Vocab) -> int:
    """Return the number of UTF-8 bytes of targets in the indices of a text (N,), with `<unk>` as one byte."""
    return int(vocab.bytes_V[index_N[targets.start : targets.stop].cpu()].sum())


def count_unknown(text: str, vocab: Vocab) -> tuple[int, int]:
    """Return how many characters of a normalised text are `<unk>`, and their number of UTF-8 bytes."""
    count_of = Counter(text)
    unknown = vocab.unknown("".join(count_of))
    size = sum(count_of[c] * len(c.encode(errors="replace")) for c in unknown)  # a lone surrogate counts as "?"
    return sum(count_of[c] for c in unknown), size

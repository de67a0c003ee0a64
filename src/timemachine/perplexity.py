"""How a model is measured: its perplexity, as a torchmetrics Metric, and the mode that it is in; and a baseline."""

import math
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from timemachine.datamodule import TimeMachine

F = TypeVar("F", bound=Callable[..., Any])


def in_evaluation_mode(function: F) -> F:
    """Call a function of a model without gradients, dropout and the like; each part's mode is then as before."""

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
    """exp(Σ NLL / Σ tokens) over all updates and all processes (equation 9.3.7 of the book).

    torchmetrics.text.Perplexity takes the logarithm of a softmax: infinite where cross-entropy is finite, and its
    float32 sums drift. Here the sum is float64 and the count int64, and what comes in is the NLL itself.
    """

    full_state_update = False
    higher_is_better = False
    nll: Tensor
    num_tokens: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("nll", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_tokens", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        # torchmetrics counts updates in an int, and torch.compile would compile a step again for each of its values.
        self.update = torch.compiler.disable(self.update)  # type: ignore[method-assign, no-untyped-call]

    def update(self, nll: Tensor) -> None:
        """Add the negative log-likelihoods of some tokens, in nats: any shape, empty too."""
        self.nll += nll.sum(dtype=torch.float64)
        self.num_tokens += nll.numel()

    def compute(self) -> Tensor:
        """Return the perplexity: 0-dimensional, float64; NaN before the first token."""
        return torch.exp(self.nll / self.num_tokens)

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> nn.Module:
        """Go to another device, but stay in float64: `module.to(torch.bfloat16)` casts the metrics of a module too."""
        return super()._apply(lambda state: state.to(fn(state).device), exclude_state)


def unigram_perplexity(data: TimeMachine, split: str) -> float:
    """Return the perplexity of the characters that a split's windows predict, each once, under the frequencies of the
    training characters, with one added to each count.

    N characters, V vocabulary.
    """
    starts, stop = data.splits[split].starts, data.splits["train"].targets.stop
    predicted_N = data.chars_N[starts.start + 1 : starts.stop + data.num_steps]
    known_V = _counts(data.chars_N[:stop], len(data.vocab)) + 1
    known_V[data.vocab.unk] *= data.vocab.num_unknown > 0  # most texts have no such character
    predicted_V = _counts(predicted_N, len(data.vocab))
    log_p = predicted_V.xlogy(known_V).sum() / predicted_V.sum() - known_V.sum().log()
    return math.exp(-log_p)


def _counts(index_N: Tensor, size: int) -> Tensor:
    """Return how often each index occurs (V,), float64; in parts, since `bincount` copies its input to int64."""
    count_V = index_N[:0].bincount(minlength=size)
    for start in range(0, len(index_N), 1 << 24):
        count_V += index_N[start : start + (1 << 24)].bincount(minlength=size)
    return count_V.double()

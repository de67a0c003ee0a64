"""Perplexity as a torchmetrics Metric, bits per byte as a callback, and evaluation mode.

N tokens, V vocabulary.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torchmetrics import Metric

from timemachine.datamodule import TimeMachine
from timemachine.vocab import Vocab

F = TypeVar("F", bound=Callable[..., Any])
WINDOWS_AT_ONCE = 1 << 20  # windows whose bytes are counted at a time


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
    """exp(Σ NLL / Σ tokens) over all updates and all processes (equation 9.3.7 of the book).

    Updates take NLLs: torchmetrics.text.Perplexity takes the logarithm of a softmax, which may be infinite where the
    cross-entropy is finite. The sum is float64 and the count int64; torchmetrics has float32 sums, which drift.
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

    def update(self, nll: Tensor) -> None:
        """Add negative log-likelihoods of tokens, in nats, of any shape; may be empty."""
        self.nll += nll.sum(dtype=torch.float64)
        self.count += nll.numel()

    def compute(self) -> Tensor:
        """Return the perplexity: 0-dimensional, float64; NaN before the first token."""
        return torch.exp(self.nll / self.count)


class BitsPerByte(Callback):
    """Log Σ NLL / ln 2 / Σ bytes of the targets in UTF-8, which is comparable across vocabularies.

    The bytes are counted once an epoch, since counting those of each batch takes 5 to 12% of a validation. The number
    of targets determines which windows were read: the processes share a TimeMachine's batches in text order, so even an
    epoch that the Trainer limits has read the first windows of its split. Other data modules and models are ignored.
    """

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log val/bits_per_byte."""
        self._log(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log test/bits_per_byte."""
        self._log(trainer, pl_module, "test")

    def _log(self, trainer: pl.Trainer, model: Any, split: str) -> None:
        data, perplexity = getattr(trainer, "datamodule", None), getattr(model, f"{split}_perplexity", None)
        if isinstance(data, TimeMachine) and perplexity is not None:  # not a user's own data or model
            with perplexity.sync_context():  # the sums of all processes
                size = window_bytes(data, split, int(perplexity.count) // data.num_steps)
                bits_per_byte = perplexity.nll / math.log(2) / size
            model.log(f"{split}/bits_per_byte", bits_per_byte, sync_dist=True)


def window_bytes(data: TimeMachine, split: str, num_windows: int) -> int:
    """Return the number of UTF-8 bytes of all targets of the first windows of a split, with `<unk>` as one byte."""
    first, total = data.splits[split].starts.start + 1, 0
    for start in range(first, first + num_windows, WINDOWS_AT_ONCE):
        stop = min(start + WINDOWS_AT_ONCE, first + num_windows) + data.num_steps - 1
        size_N = data.vocab.bytes_V[data.tokens_N[start:stop].cpu().long()]
        total += int(size_N.unfold(0, data.num_steps, 1).sum())
    return total


def num_bytes(index_N: Tensor, targets: range, vocab: Vocab) -> int:
    """Return the number of UTF-8 bytes of targets in the indices of a text (N,), with `<unk>` as one byte."""
    parts = torch.split(index_N[targets.start : targets.stop], 1 << 24)  # indexing takes 16 bytes per target
    return sum(int(vocab.bytes_V[part.cpu().long()].sum()) for part in parts)


def count_unknown(text: str, vocab: Vocab) -> tuple[int, int]:
    """Return how many characters of a normalised text are `<unk>`, and their number of UTF-8 bytes."""
    count_of = Counter(text)
    unknown = vocab.unknown("".join(count_of))
    size = sum(count_of[c] * len(c.encode(errors="replace")) for c in unknown)  # a lone surrogate counts as "?"
    return sum(count_of[c] for c in unknown), size

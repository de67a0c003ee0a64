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

    Counts the bytes of the targets of each batch, whichever windows a subclass of TimeMachine reads. Logs nothing if
    the model's perplexity is of other targets, or if a user's model has none.
    """

    def __init__(self) -> None:
        self.count, self.size = 0, torch.tensor(0)  # targets and their bytes, in this process
        self.bytes_V: Tensor | None = None  # of each token; None if each has one byte

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin to count."""
        self.count, self.size, self.bytes_V = 0, torch.tensor(0, device=pl_module.device), None
        bytes_V = trainer.datamodule.vocab.bytes_V  # type: ignore[attr-defined]
        if (bytes_V != 1).any():
            self.bytes_V = bytes_V.to(pl_module.device)

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Add the targets of a batch."""
        _, Y_BT = batch
        self.count += Y_BT.numel()
        self.size += Y_BT.numel() if self.bytes_V is None else self.bytes_V[Y_BT].sum()

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log val/bits_per_byte."""
        self._log(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log test/bits_per_byte."""
        self._log(trainer, pl_module, "test")

    def _log(self, trainer: pl.Trainer, model: Any, split: str) -> None:
        perplexity = getattr(model, f"{split}_perplexity", None)
        if perplexity is not None:  # not a user's own model
            counted = torch.stack([torch.full_like(self.size, self.count), self.size])
            count, size = trainer.strategy.reduce(counted, reduce_op="sum")
            with perplexity.sync_context():  # the sums of all processes
                bits_per_byte, num_scored = perplexity.nll / math.log(2) / size, perplexity.count
            if count and num_scored == count:
                model.log(f"{split}/bits_per_byte", bits_per_byte, sync_dist=True)


def num_bytes(index_N: Tensor, targets: range, vocab: Vocab) -> int:
    """Return the number of UTF-8 bytes of targets in the indices of a text (N,), with `<unk>` as one byte."""
    return int(vocab.bytes_V[index_N[targets.start : targets.stop].cpu().long()].sum())


def count_unknown(text: str, vocab: Vocab) -> tuple[int, int]:
    """Return how many characters of a normalised text are `<unk>`, and their number of UTF-8 bytes."""
    count_of = Counter(text)
    unknown = vocab.unknown("".join(count_of))
    size = sum(count_of[c] * len(c.encode(errors="replace")) for c in unknown)  # a lone surrogate counts as "?"
    return sum(count_of[c] for c in unknown), size

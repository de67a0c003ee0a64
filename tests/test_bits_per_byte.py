"""Bits per byte of texts whose symbols have several bytes. test_scores.py compares the perplexities with slow loops."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.runs import fit, rows, summary
from tests.support.texts import path_of
from timemachine.datamodule import Batch, TimeMachine, WindowLoader
from timemachine.evaluation.scores import evaluate
from timemachine.language_model import RNNLMScratch

NUM_STEPS = 4


class EveryFourth(TimeMachine):
    """Validates on windows that do not overlap."""

    def val_dataloader(self) -> WindowLoader:
        loader = super().val_dataloader()
        loader.windows_NT = loader.windows_NT[::NUM_STEPS]
        return loader


class LastTarget(RNNLMScratch):
    """Scores the last target of each window only."""

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.val_perplexity.update(self.mean_nll(batch)[1][:, -1:])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("language", "tokens"),
    [("greek", {"tokens": "bpe", "vocab_size": 300}), ("chinese", {"tokens": "characters", "min_count": 2})],
)
def test_bytes_of_the_targets_that_were_scored(language: str, tokens: dict[str, Any], tmp_path: Path) -> None:
    """Of a data module with custom windows, and of a stream. Without the same targets, no bits are logged."""
    data = EveryFourth(64, NUM_STEPS, 500, 203, corpus=str(path_of(language)), **tokens)
    torch.manual_seed(3)
    model = RNNLMScratch(len(data.vocab), hiddens=5, sigma=0.5)
    fit(tmp_path / "all", model, data, max_epochs=1, precision="64-true")
    bits, num_bytes = 0.0, 0
    for start in range(500, 703, NUM_STEPS):
        X_1T, Y_1T = (data.tokens_N[None, start + first : start + first + NUM_STEPS].long() for first in (0, 1))
        bits += model.nll((X_1T, Y_1T)).sum().item() / math.log(2)
        num_bytes += sum(int(data.vocab.bytes_V[token]) for token in Y_1T.flatten())
    (row,) = rows(tmp_path / "all/metrics.csv")
    assert row["val/bits_per_byte"] == pytest.approx(bits / num_bytes, rel=1e-9)
    about = summary(tmp_path / "all")
    _, *held_out = evaluate(model, data.vocab, about, data.corpus)
    for part in held_out:
        tokens_N = data.tokens_N[list(data.splits[part.part].targets)].long()
        num_bytes = int(data.vocab.bytes_V[tokens_N].sum())
        assert part.bits_per_byte == pytest.approx(part.stream.bits * len(tokens_N) / num_bytes, rel=1e-9)
    hidden = [it for it in data.corpus.characters if data.vocab.unknown(it)]
    assert about["corpus"]["unknown_bytes"] == sum(len(it.encode()) for it in hidden)
    assert bool(hidden) == ("min_count" in tokens)
    fit(tmp_path / "last", LastTarget(len(data.vocab), hiddens=5), data, max_epochs=1)
    (row,) = rows(tmp_path / "last/metrics.csv")
    assert "val/perplexity" in row and "val/bits_per_byte" not in row

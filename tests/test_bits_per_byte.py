"""Bits per byte of three texts, compared with a plain loop over their characters in float64."""

import math
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.runs import fit, rows, summary
from tests.support.texts import path_of, read
from timemachine.datamodule import Batch, TimeMachine, WindowLoader
from timemachine.evaluation.scores import evaluate
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.language_model import RNNLMScratch

NUM_STEPS = 4


class Loop:
    """A model computed from the book's equations, on a text. `kind` sets the tokens."""

    def __init__(self, model: RNNLMScratch, text: str, kind: str, min_count: int) -> None:
        self.text = re.sub("[^a-z]+", " ", text.lower()) if kind == "letters" else text
        known = {it for it, count in Counter(self.text).items() if count >= min_count}
        self.hidden = [it for it in self.text if it not in known]
        tokens = sorted({*known, "<unk>"})
        self.indices = [tokens.index(it if it in known else "<unk>") for it in self.text]
        self.sizes = [len(it.encode()) if it in known else 1 for it in self.text]
        weights = {name: it.detach().numpy() for name, it in model.named_parameters()}
        names = ("rnn.W_xh", "rnn.W_hh", "rnn.b_h", "W_hq", "b_q")
        self.W_xh, self.W_hh, self.b_h, self.W_hq, self.b_q = (weights[name] for name in names)

    def bits(self, first: int, last: int) -> list[float]:
        """Return -log2 P of the characters from `first` to `last`, starting from a zero state."""
        H, found = np.zeros_like(self.b_h), []
        for place in range(first, last):
            H = np.tanh(self.W_xh[self.indices[place]] + H @ self.W_hh + self.b_h)
            scores = (H @ self.W_hq + self.b_q).tolist()
            target = scores[self.indices[place + 1]]
            found.append(math.log2(math.fsum(math.exp(score - target) for score in scores)))
        return found

    def border(self, percent: int) -> int:
        """Return the start of a part of the text."""
        return len(self.text) * percent // 100

    def windows(self, first: int, last: int) -> float:
        """Return the bits per byte of all windows in a part of the text."""
        starts = range(first, last - NUM_STEPS)
        bits = [bits for start in starts for bits in self.bits(start, start + NUM_STEPS)]
        return math.fsum(bits) / sum(sum(self.sizes[start + 1 : start + 1 + NUM_STEPS]) for start in starts)

    def stream(self, first: int, last: int) -> float:
        """Return the bits per byte of a part of the text, read once, after the 512 characters before it."""
        bits = self.bits(max(0, first - 1 - 512), last - 1)[first - last :]
        return math.fsum(bits) / sum(self.sizes[first:last])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("language", "kind", "min_count"),
    [("german", "letters", 1), ("greek", "characters", 1), ("chinese", "characters", 2)],
)
def test_three_texts_against_plain_loop(language: str, kind: str, min_count: int, tmp_path: Path) -> None:
    """Compare metrics.csv and the rows of evaluate.py. With rare characters, the cost of `<unk>` is included."""
    data = TimeMachine(64, NUM_STEPS, None, None, tokens=kind, min_count=min_count, corpus=str(path_of(language)))
    torch.manual_seed(3)
    model = FusedRNNLM(len(data.vocab), hiddens=5, sigma=0.5)
    trainer = fit(tmp_path, model, data, max_epochs=2, precision="64-true")
    trainer.test(model, data, verbose=False)
    loop, about = Loop(model, read(language), kind, min_count), summary(tmp_path)
    val, test = (loop.border(90), loop.border(95)), (loop.border(95), len(loop.text))
    last = rows(tmp_path / "metrics.csv")[-1]
    _, *held_out = evaluate(model, data.vocab, about, data.corpus)
    for name, part, row in zip(("val", "test"), (val, test), held_out, strict=True):
        assert last[f"{name}/bits_per_byte"] == pytest.approx(loop.windows(*part), rel=1e-9)
        assert row.window and row.window.perplexity == pytest.approx(last[f"{name}/perplexity"], rel=1e-9)
        assert row.bits_per_byte == pytest.approx(loop.stream(*part), rel=1e-9)
    size = sum(len(it.encode()) for it in loop.hidden)
    assert (about["corpus"]["unknown_bytes"], bool(size)) == (size, min_count > 1)


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
@pytest.mark.parametrize("tokens", ["characters", "bpe"])
def test_bytes_of_the_targets_that_were_scored(tokens: str, tmp_path: Path) -> None:
    """Of a data module with custom windows. Without the same targets, no bits are logged."""
    vocab_size = 300 if tokens == "bpe" else 1024  # the default, of no effect on characters
    data = EveryFourth(64, NUM_STEPS, 500, 203, 0, tokens, vocab_size=vocab_size, corpus=str(path_of("greek")))
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
    fit(tmp_path / "last", LastTarget(len(data.vocab), hiddens=5), data, max_epochs=1)
    (row,) = rows(tmp_path / "last/metrics.csv")
    assert "val/perplexity" in row and "val/bits_per_byte" not in row

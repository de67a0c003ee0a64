"""Bits per byte of three texts, compared with a plain loop over their characters in float64."""

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from tests.support.runs import fit, rows, summary
from tests.support.texts import path_of, read
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import evaluate
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.language_model import RNNLMScratch
from timemachine.perplexity import BitsPerByte

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
        assert row.bits_per_byte == row.cells()[-1] == pytest.approx(loop.stream(*part), rel=1e-9)
    size = sum(len(it.encode()) for it in loop.hidden)
    assert (about["corpus"]["unknown_bytes"], bool(size)) == (size, min_count > 1)


def trainer_of(folder: Path, **arguments: Any) -> pl.Trainer:
    """Return a Trainer that measures bits per byte and writes no files."""
    return pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                      enable_model_summary=False, accelerator="cpu", default_root_dir=folder,
                      callbacks=[BitsPerByte()], **arguments)  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("limit", "num_val", "num_test"), [(2, 100, 100), (0.5, 150, 450), (7, 320, 350), (1.0, 320, None)]
)
def test_limited_batches(
    limit: float, num_val: int, num_test: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the windows that were read count, each with all of its targets."""
    monkeypatch.setattr("timemachine.perplexity.WINDOWS_AT_ONCE", 64)
    data = TimeMachine(50, 6, 200, 320, tokens="characters", corpus=str(path_of("greek")))
    model = RNNLMScratch(len(data.vocab), hiddens=4, sigma=0.5)
    trainer = trainer_of(tmp_path, limit_val_batches=limit, limit_test_batches=limit)
    (val,), (test,) = (measure(model, data, verbose=False) for measure in (trainer.validate, trainer.test))
    for found, first, number in (
        (val["val/bits_per_byte"], 200, num_val),
        (test["test/bits_per_byte"], 526, num_test),
    ):
        windows_NT = data.tokens_N.unfold(0, 7, 1)[first:][:number].long()
        bits = model.nll((windows_NT[:, :-1], windows_NT[:, 1:])).double().sum().item() / math.log(2)
        assert found == pytest.approx(bits / data.vocab.bytes_V[windows_NT[:, 1:]].sum().item(), rel=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_without_a_vocabulary(sample: Corpus, tmp_path: Path) -> None:
    """A custom data loader has no vocabulary, so only perplexity is logged."""
    data = TimeMachine(batch_size=64, num_steps=8, num_train=64, num_val=64, corpus=sample)
    trainer = trainer_of(tmp_path)
    trainer.fit(RNNLMScratch(28, hiddens=4), data.train_dataloader(), data.val_dataloader())
    assert {*trainer.callback_metrics} == {"train/perplexity", "val/perplexity"}

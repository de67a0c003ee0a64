"""Numbers that stay right where the sizes are extreme, and the same wherever the same is run again."""

import csv
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import Program
from tests.test_language_model import fit, weights_of
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.perplexity import Perplexity
from timemachine.sweep import read_rows


def text_of(num_distinct: int, length: int, folder: Path) -> Corpus:
    """As no book has: each byte but one may be a character."""
    path = folder / "text"
    path.write_bytes(b"")
    drawn = np.random.default_rng(0).integers(num_distinct, size=length)
    characters = bytes(range(num_distinct)) + drawn.astype(np.uint8).tobytes()
    return Corpus("text", "A Text", str(path), path, characters, "0")


def nll_of_the_split(model: RNNLMScratch, data: TimeMachine, split: str) -> float:
    """Mean over all positions of all windows, in float64, one window and one step at a time."""
    W = weights_of(model)
    nlls = []
    for start in data.splits[split].starts:
        window = data.chars_N[start : start + data.num_steps + 1].tolist()
        h = np.zeros(len(W["rnn.b_h"]))
        for before, after in itertools.pairwise(window):
            h = np.tanh(W["rnn.W_xh"][before] + h @ W["rnn.W_hh"] + W["rnn.b_h"])
            o = h @ W["W_hq"] + W["b_q"]
            nlls.append(math.log(np.exp(o - o.max()).sum()) + o.max() - o[after])
    return math.fsum(nlls) / len(nlls)


@pytest.mark.parametrize("num_distinct", [1, 2, 27, 255])  # and <unk>: V is 2, 3, 28, 256
@pytest.mark.parametrize(("num_steps", "batch_size"), [(1, 1), (1, 64), (5, 1), (5, 64)])
@pytest.mark.parametrize("num_val", [1, 20])
def test_any_size_is_that_of_a_slow_loop(
    num_distinct: int, num_steps: int, batch_size: int, num_val: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    corpus = text_of(num_distinct, 120, tmp_path)
    data = TimeMachine(batch_size, num_steps, num_train=65, num_val=num_val, corpus=corpus)
    model = RNNLMScratch(len(data.vocab), hiddens=3, sigma=0.5)
    before = nll_of_the_split(model, data, "train")
    steps = fit(model, data, tmp_path, max_epochs=1, gradient_clip_val=1)
    assert len(data.vocab) == num_distinct + 1
    assert len(steps.weights) == math.ceil(65 / batch_size)
    (row,) = read_rows(tmp_path / "metrics.csv")
    assert row["val/perplexity"] == pytest.approx(math.exp(nll_of_the_split(model, data, "val")), rel=1e-5)
    if batch_size == 64:  # 64 windows before the first update, one after it
        assert row["train/perplexity"] == pytest.approx(math.exp(before), rel=0.05)


def test_perplexity_over_a_thousand_million_tokens() -> None:
    """As an epoch would give them, a million at a time; float32 as the model's are."""
    million_N = torch.rand(10**6, generator=torch.Generator().manual_seed(0)) * 5
    exact = math.exp(math.fsum(million_N.tolist()) / 10**6)
    total = Perplexity()
    for _ in range(1000):
        total.update(million_N)
    assert total.compute().item() == pytest.approx(exact, rel=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_same_command_gives_the_same_bytes(threads: str, program: Program, tmp_path: Path) -> None:
    """But for the speed, on one thread or two. Between one and two, sums have another order."""
    typed = ("data=sample", "logger=csv", "trainer.max_epochs=3", "probes=[dynamics]")
    for name in ("once", "again"):
        done = program("train.py", *typed, f"hydra.run.dir={name}", OMP_NUM_THREADS=threads)
        assert done.returncode == 0, done.stderr
    once, again = tmp_path / "once", tmp_path / "again"
    for file in ("steps.csv", "dynamics.csv", "sample.txt"):
        assert (once / file).read_bytes() == (again / file).read_bytes()
    assert epochs_of(once) == epochs_of(again)
    assert len(epochs_of(once)) == 3


def epochs_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [row | {"chars_per_second": ""} for row in csv.DictReader(file)]

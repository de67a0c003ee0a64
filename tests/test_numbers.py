"""Numbers that stay right where the sizes are extreme, and the same wherever the same is run again."""

import itertools
import math
import re
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from tests.support.programs import Program, call_program
from tests.support.runs import what_is_left
from timemachine.cli.schema import leaves
from timemachine.config import Train
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch


def text_of(num_distinct: int, length: int, folder: Path) -> Corpus:
    """As no book has: each byte but one may be a character."""
    path = folder / "text"
    path.write_bytes(b"")
    drawn = np.random.default_rng(0).integers(num_distinct, size=length)
    characters = bytes(range(num_distinct)) + drawn.astype(np.uint8).tobytes()
    return Corpus("text", "A Text", str(path), (path,), characters, "0")


def nll_of_the_split(model: RNNLMScratch, data: TimeMachine, split: str) -> float:
    """Mean over all positions of all windows, in float64, one window and one step at a time."""
    W = {name: weight.detach().double().numpy() for name, weight in model.named_parameters()}
    nlls = []
    for start in data.splits[split].starts:
        window = data.chars_N[start : start + data.num_steps + 1].tolist()
        h = np.zeros(len(W["rnn.b_h"]))
        for before, after in itertools.pairwise(window):
            h = np.tanh(W["rnn.W_xh"][before] + h @ W["rnn.W_hh"] + W["rnn.b_h"])
            o = h @ W["W_hq"] + W["b_q"]
            nlls.append(math.log(np.exp(o - o.max()).sum()) + o.max() - o[after])
    return math.fsum(nlls) / len(nlls)


@pytest.mark.filterwarnings("ignore")  # what a plain Trainer warns of, and train.py does not
@pytest.mark.parametrize("num_distinct", [1, 2, 27, 255])  # and <unk>: V is 2, 3, 28, 256
@pytest.mark.parametrize(("num_steps", "batch_size", "num_val"), [(1, 1, 20), (1, 64, 1), (5, 1, 1), (5, 64, 20)])
def test_any_size_is_that_of_a_slow_loop(
    num_distinct: int, num_steps: int, batch_size: int, num_val: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    corpus = text_of(num_distinct, 120, tmp_path)
    data = TimeMachine(batch_size, num_steps, num_train=65, num_val=num_val, corpus=corpus)
    model = RNNLMScratch(len(data.vocab), hiddens=3, sigma=0.5)
    before = nll_of_the_split(model, data, "train")
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, gradient_clip_val=1, num_sanity_val_steps=0, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(model, data)
    assert len(data.vocab) == num_distinct + 1
    assert trainer.global_step == math.ceil(65 / batch_size)
    found = {name: float(number) for name, number in trainer.callback_metrics.items()}
    assert found["val/perplexity"] == pytest.approx(math.exp(nll_of_the_split(model, data, "val")), rel=1e-5)
    if batch_size == 64:  # 64 windows before the first update, one after it
        assert found["train/perplexity"] == pytest.approx(math.exp(before), rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_same_command_gives_the_same_bytes(threads: str, program: Program, tmp_path: Path) -> None:
    """But for the speed, on one thread or two. Between one and two, sums have another order."""
    typed = ("data=sample", "logger=csv", "trainer.max_epochs=3", "probes=[dynamics]")
    for name in ("once", "again"):
        done = program("train.py", *typed, f"hydra.run.dir={name}", OMP_NUM_THREADS=threads)
        assert done.returncode == 0, done.stderr
    once, again = tmp_path / "once", tmp_path / "again"
    for file in ("dynamics.csv", "sample.txt"):
        assert (once / file).read_bytes() == (again / file).read_bytes()
    assert what_is_left(once) == what_is_left(again)


# The greatest value of each number

SMALL = (
    "data=sample", "logger=csv", "trainer=cpu", "model.hiddens=2", "data.num_steps=2", "data.batch_size=4",
    "data.num_train=8", "data.num_val=4", "trainer.max_epochs=1", "model.lr=0.01", "hydra.run.dir=run",
)  # fmt: skip
NOT_FOR_A_TEST = {"devices", "max_epochs", "hiddens"}  # starts processes, has no end, is large


@pytest.mark.parametrize(
    ("name", "most"),
    [
        (name, setting.metadata["most"])
        for name, setting in leaves(Train)
        if isinstance(setting.metadata.get("most"), int) and name.split(".")[-1] not in NOT_FOR_A_TEST
        if not name.startswith("logger.")
    ],
)
@pytest.mark.usefixtures("quick_calls")
def test_the_greatest_value_is_no_crash(name: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = call_program("train.py", *SMALL, f"{name}={most}")
    errors = re.findall("^error: .*|^Traceback", done.stderr, re.MULTILINE)
    assert len(errors) == done.returncode
    for line in errors:  # two updates teach little
        assert re.search(rf"{name}={most}.*[Tt]ype|diverged: ends with", line)

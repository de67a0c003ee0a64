"""Numbers that stay right where the sizes are extreme, and the same wherever the same is run again."""

import itertools
import math
import re
from dataclasses import Field, fields, is_dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from tests.support.programs import Program, call_program
from tests.support.runs import what_is_left
from timemachine import config
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.perplexity import Perplexity


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
    for file in ("dynamics.csv", "sample.txt"):
        assert (once / file).read_bytes() == (again / file).read_bytes()
    assert what_is_left(once) == what_is_left(again)


# The greatest value of each number

SCHEMAS = [schema for schema in vars(config).values() if is_dataclass(schema)]
# Of the type Any, and no number.
NO_NUMBERS = {"run", "corpus", "precision", "max_time", "deterministic", "plugins"}
NUMBERS = [
    (schema, setting)
    for schema in SCHEMAS
    for setting in fields(schema)
    if re.search(r"\b(int|float)\b", str(setting.type)) or (setting.type is Any and setting.name not in NO_NUMBERS)
]


@pytest.mark.parametrize(("schema", "setting"), NUMBERS)
def test_every_number_has_a_greatest_value(schema: Any, setting: Field[Any]) -> None:
    most = setting.metadata["most"]
    above = [most + 1, 10**23, 10**100] if isinstance(most, int) else [most * 1.01, 10**100, math.inf]
    needed = {"run": "a"} if any(other.name == "run" for other in fields(schema)) else {}
    for value in above:
        with pytest.raises(SettingError, match=rf"^([a-z.]+\.)?{setting.name}=.*: must be .*; type for example "):
            schema(**needed, **{setting.name: value})


SMALL = (
    "data=sample", "logger=csv", "trainer=cpu", "model.hiddens=2", "data.num_steps=2", "data.batch_size=4",
    "data.num_train=8", "data.num_val=4", "trainer.max_epochs=1", "model.lr=0.01", "hydra.run.dir=run",
)  # fmt: skip
NOT_FOR_A_TEST = {"devices", "max_epochs", "hiddens"}  # starts processes, has no end, is large


@pytest.mark.parametrize(
    ("name", "most"),
    [
        (f"{schema.__name__.lower()}.{setting.name}".removeprefix("train."), setting.metadata["most"])
        for schema, setting in NUMBERS
        if schema in (config.Train, config.Model, config.Data, config.Training, config.Trainer)
        and isinstance(setting.metadata["most"], int)
        and setting.name not in NOT_FOR_A_TEST
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

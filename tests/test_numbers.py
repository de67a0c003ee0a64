"""Numbers that stay right where the sizes are extreme, and the same wherever the same is run again."""

import csv
import itertools
import math
import re
from dataclasses import Field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from tests.conftest import Program
from tests.support.programs import call_program
from tests.test_language_model import fit, weights_of
from timemachine.cli.arguments import checked_arguments
from timemachine.cli.schema import CONF, VERSION, Settings, checked, leaves
from timemachine.config import Evaluate, Generate, Train
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.perplexity import Perplexity
from timemachine.runs.rows import read_numbers


def text_of(num_distinct: int, length: int, folder: Path) -> Corpus:
    """As no book has: each byte but one may be a character."""
    path = folder / "text"
    path.write_bytes(b"")
    drawn = np.random.default_rng(0).integers(num_distinct, size=length)
    characters = bytes(range(num_distinct)) + drawn.astype(np.uint8).tobytes()
    return Corpus("text", "A Text", str(path), (path,), characters, "0")


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
    (row,) = read_numbers(tmp_path / "metrics.csv")
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


# The greatest value of each number

PROGRAMS: dict[type, str] = {Train: "train", Evaluate: "evaluate", Generate: "generate"}
NO_NUMBERS = {"run", "data.corpus", "trainer.precision", "trainer.max_time", "trainer.deterministic", "trainer.plugins"}
NUMBERS = [
    (schema, name, setting)
    for schema in PROGRAMS
    for name, setting in leaves(schema)
    if re.search(r"\b(int|float)\b", str(setting.type)) or setting.type in (int, float)
    or (setting.type is Any and name not in NO_NUMBERS)
]  # fmt: skip


def compose_and_check(schema: type[Settings], argument: str) -> Settings:
    needed: list[str] = [] if schema is Train else ["run=a"]
    needed += ["logger=wandb"] if schema is not Train and argument.startswith("logger.") else []
    arguments = checked_arguments([*needed, argument], schema)
    with initialize_config_dir(str(CONF), **VERSION):
        return checked(compose(PROGRAMS[schema], arguments), schema)


@pytest.mark.parametrize(("schema", "name", "setting"), NUMBERS)
def test_every_number_has_a_greatest_value(schema: Any, name: str, setting: Field[Any]) -> None:
    most = setting.metadata["most"]
    above = ["99999999999999999999999", "1" + 100 * "0"] if most < 1e20 else ["4e38", "1" + 100 * "0", "inf"]
    for value in [*above, str(most + 1) if isinstance(most, int) else repr(most * 1.01)]:
        with pytest.raises(SettingError, match=rf"^{re.escape(name)}=.*: must be .*; type for example {name}="):
            compose_and_check(schema, f"{name}={value}")


SMALL = (
    "data=sample", "logger=csv", "trainer=cpu", "model.hiddens=2", "data.num_steps=2", "data.batch_size=4",
    "data.num_train=8", "data.num_val=4", "trainer.max_epochs=1", "model.lr=0.01", "hydra.run.dir=run",
)  # fmt: skip
NOT_FOR_A_TEST = {"trainer.devices", "trainer.max_epochs", "model.hiddens"}  # starts processes, has no end, is large


@pytest.mark.parametrize(
    ("name", "most"),
    [
        (name, setting.metadata["most"])
        for schema, name, setting in NUMBERS
        if schema is Train and isinstance(setting.metadata["most"], int) and name not in NOT_FOR_A_TEST
        and not name.startswith("logger.wandb.")
    ],
)  # fmt: skip
def test_the_greatest_value_is_no_crash(name: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = call_program("train.py", *SMALL, f"{name}={most}")
    said = re.findall("^error: .*|^Traceback", done.stderr, re.MULTILINE)
    assert len(said) == done.returncode
    for line in said:  # two updates teach little
        assert re.search(rf"{name}={most}.*[Tt]ype|diverged: ends with", line)

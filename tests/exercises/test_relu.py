"""Exercise 10: the recurrence before and after training."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.runs import fit
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import Diverged
from timemachine.exercises import relu
from timemachine.language_model import RNNLMScratch
from timemachine.run.rows import read_numbers


@pytest.fixture
def data(sample: Corpus) -> TimeMachine:
    return TimeMachine(batch_size=64, num_steps=8, num_train=128, num_val=64, corpus=sample)


def model_for(data: TimeMachine, **settings: Any) -> RNNLMScratch:
    torch.manual_seed(0)
    return RNNLMScratch(len(data.vocab), **({"hiddens": 4} | settings))


def test_radius_growth_and_dead_units(data: TimeMachine) -> None:
    model = model_for(data, activation="relu", sigma=0)
    with torch.no_grad():
        model.get_parameter("rnn.b_h").copy_(torch.tensor([-1.0, -2.0, -3.0, 1.0]))
        model.get_parameter("rnn.W_hh")[3, 3] = 2.0  # 1, 3, 7, …
    assert relu.recurrence(model, data) == {"spectral_radius": 2, "growth": 2**8 - 1, "dead_share": 0.75}
    model = model_for(data, sigma=0.5, hiddens=9)
    eigenvalues = np.linalg.eigvals(model.rnn.W_hh.detach().double().numpy())
    assert relu.recurrence(model, data)["spectral_radius"] == pytest.approx(max(abs(eigenvalues)))


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("so it goes on and on and on and on", 7),
        ("the the the", 0),
        (" the the the", 4),
        ("aaa", 1),
        ("", 0),
        ("ab", 0),
    ],
)
def test_loop_repeats_three_times(text: str, length: int) -> None:
    assert relu.period(text) == length


def test_start_is_kept_once(data: TimeMachine, tmp_path: Path) -> None:
    data.generator.manual_seed(0)
    model, folder = model_for(data), tmp_path / "run"
    folder.mkdir()
    start = relu.recurrence(model, data)
    for max_epochs in (1, 2):  # the second run is resumed
        fit(folder, model, data, [relu.callback(folder)], max_epochs=max_epochs)
        assert read_numbers(folder / "dynamics.csv") == [start]
    assert relu.recurrence(model, data) != start
    with pytest.raises(Diverged, match=r"a smaller model\.lr \(now 1e\+30\)"):
        wild = model_for(data, activation="relu", sigma_hh=3.0, lr=1e30, hiddens=32)
        fit(tmp_path / "wild", wild, data, [relu.callback(tmp_path / "wild")], max_epochs=3)
    assert read_numbers(tmp_path / "wild/dynamics.csv")[0]["spectral_radius"] > 3

"""Exercise 10: the recurrence before and after training, and what its report makes of the jobs' folders."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.jobs import leave_job
from tests.support.runs import fit
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import Diverged
from timemachine.exercises import relu
from timemachine.language_model import RNNLMScratch
from timemachine.run.jobs import load_jobs
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
    for max_epochs in (1, 2):  # the second one goes on
        fit(folder, model, data, [relu.callback(folder)], max_epochs=max_epochs)
        assert read_numbers(folder / "dynamics.csv") == [start]
    assert relu.recurrence(model, data) != start
    with pytest.raises(Diverged, match=r"a smaller model\.lr \(now 1e\+30\)"):
        wild = model_for(data, activation="relu", sigma_hh=3.0, lr=1e30, hiddens=32)
        fit(tmp_path / "wild", wild, data, [relu.callback(tmp_path / "wild")], max_epochs=3)
    assert read_numbers(tmp_path / "wild/dynamics.csv")[0]["spectral_radius"] > 3


def relu_job(sweep: Path, activation: str, sigma: float | None, theta: float | None, seed: int, val: float) -> None:
    """A folder as train.py leaves it; a run that ends above 28 was stopped in its third step. ρ is 6 σ and more."""
    lost, rho = val > 28, 6 * (sigma or 0.01) + 0.1 * seed
    start = {"spectral_radius": rho, "growth": max(1.0, rho) ** 31, "dead_share": 0}
    steps = [{"epoch": 1, "grad_norm": norm} for norm in ((0.2, 3e14, math.nan) if lost else (0.2, 0.3, 0.1))]
    end = {
        "spectral_radius": 1.2,
        "dead_share": 0.25,
        "period": 6 * (seed == 0),
        "greedy": "it has the",
        "sample": "it",
    }
    settings = {"seed": seed, "trainer": {"gradient_clip_val": theta}}
    settings["model"] = {"lr": 1.0, "activation": activation, "sigma": 0.01, "sigma_hh": sigma}
    metrics = {} if lost else {"train/perplexity": 6.0, "val/perplexity": val}
    probes = {} if lost else {"dynamics": end}
    leave_job(sweep, settings, status="diverged" if lost else "completed", metrics=metrics, probes=probes,
              tables={"steps": steps, "dynamics": [start]})  # fmt: skip


def test_radius_above_which_clipping_helps(tmp_path: Path) -> None:
    folder = tmp_path / "relu"
    for seed in (0, 1):
        for activation in ("tanh", "relu"):
            relu_job(folder, activation, None, None, seed, 7.3 + 0.1 * seed)
            relu_job(folder, activation, None, 1.0, seed, 7.4 + 0.2 * seed)
            relu_job(folder, activation, 0.35, None, seed, 7.5 if activation == "tanh" else 1e9)
            relu_job(folder, activation, 0.35, 1.0, seed, 7.6 + 0.1 * seed)
        relu_job(folder, "relu", 0.15, None, seed, 1e9 if seed else 16.9)  # seed 0 learns nothing
        relu_job(folder, "relu", 0.15, 1.0, seed, 7.2)
    found = relu.findings(load_jobs(folder))
    assert found.columns[-2:] == ["no clipping", "θ = 1"]
    assert found.rows == [
        ["ReLU", "0.01", "0.06 to 0.16", "1", "0.2", "2 of 2", "2 of 2"],
        ["ReLU", "0.15", "0.9 to 1", "1", "0.2", "0 of 2", "2 of 2"],
        ["ReLU", "0.35", "2.1 to 2.2", "9.7e+09 to 4.1e+10", "0.2", "0 of 2", "2 of 2"],
        ["tanh", "0.01", "0.06 to 0.16", "1", "0.2", "2 of 2", "2 of 2"],
        ["tanh", "0.35", "2.1 to 2.2", "9.7e+09 to 4.1e+10", "0.2", "2 of 2", "2 of 2"],
    ]
    text = " ".join([found.answer, *found.notes])
    for passage in (
        "7.35 ± 0.64 without clipping and at 7.50 ± 1.27",
        "above 0.16, 0 of 4 runs learn without clipping and 4 of 4",
        "| ReLU | 0.01 | 1 | 7.35 ± 0.64 | 7.50 ± 1.27 | +0.15 ± 0.64 |",
        "| ReLU | 0.15 | 1 | – | 7.20 ± 0.00 | – |",
        "| ReLU | 0.15 | `it has the` | `it` |",
    ):
        assert passage in text
    assert dict(zip(found.arrays["job"], found.arrays["rho"], strict=True))["4"] == pytest.approx(0.06)
    early = [norm for job, norm in zip(found.arrays["job"], found.arrays["early_norm"], strict=True) if job == "6"]
    assert early == [3e14]  # the largest finite one of a run that diverged
    assert set(found.figures) == {"outcome", "why"}

"""Exercise 10: the recurrence over training, and what its report makes of the jobs' folders."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.jobs import leave_job
from tests.support.runs import fit
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import Diverged
from timemachine.exercises import relu
from timemachine.exercises.jobs import load_jobs
from timemachine.language_model import RNNLMScratch
from timemachine.runs.rows import read_numbers


@pytest.fixture
def data(sample: Corpus) -> TimeMachine:
    return TimeMachine(batch_size=64, num_steps=8, num_train=128, num_val=64, corpus=sample)


def model_for(data: TimeMachine, **settings: Any) -> RNNLMScratch:
    torch.manual_seed(0)
    return RNNLMScratch(len(data.vocab), **({"hiddens": 4} | settings))


def test_the_spectral_radius_is_the_largest_modulus_of_an_eigenvalue() -> None:
    turn = torch.tensor([[0.0, -3.0], [3.0, 0.0]])  # eigenvalues ±3i
    assert relu.spectral_radius(torch.block_diag(turn, torch.diag(torch.tensor([2.0, -1.0])))) == pytest.approx(3)
    assert relu.spectral_radius(torch.tensor([[0.0, 5.0], [0.0, 0.0]])) == 0


def test_units_below_zero_are_dead_and_the_largest_activation_is_known(data: TimeMachine) -> None:
    model = model_for(data, activation="relu", sigma=0)
    with torch.no_grad():
        model.get_parameter("rnn.b_h").copy_(torch.tensor([-1.0, -2.0, -3.0, 1.0]))
        model.get_parameter("rnn.W_hh")[3, 3] = 2.0  # 1, 3, 7, …
    measured = relu.measure(model, data)
    assert measured["dead_share"] == 0.75
    assert measured["spectral_radius"] == 2
    assert measured["largest_activation"] == 2**8 - 1
    assert math.isnan(measured["saturated_share"])


def test_tanh_units_that_are_saturated_at_every_position_are_counted(data: TimeMachine) -> None:
    model = model_for(data, sigma=0)
    with torch.no_grad():
        model.get_parameter("rnn.b_h").copy_(torch.tensor([9.0, -9.0, 1.0, 0.0]))
    measured = relu.measure(model, data)
    assert measured["saturated_share"] == 0.5
    assert measured["dead_share"] == 0.25
    assert measured["largest_activation"] == pytest.approx(1)
    with torch.no_grad():
        model.get_parameter("rnn.W_hh")[0, 1] = math.inf
    measured = relu.measure(model, data)
    assert math.isnan(measured["spectral_radius"]) and math.isnan(measured["dead_share"])


def test_a_run_that_goes_on_has_the_rows_of_one_that_never_broke_off(data: TimeMachine, tmp_path: Path) -> None:
    for name, parts in (("whole", [3]), ("cut", [2, 3])):
        data.generator.manual_seed(0)
        model, folder = model_for(data), tmp_path / name
        folder.mkdir()
        for number, max_epochs in enumerate(parts):
            if number:
                with (folder / "dynamics.csv").open("a") as file:
                    file.write("3,1,1,1,1\n4,")  # of an epoch without a checkpoint, and of one that was cut short
            fit(folder, model, data, [relu.callback(folder)], max_epochs=max_epochs)
            rows = read_numbers(folder / "dynamics.csv")
            assert rows[-1] == pytest.approx({"epoch": max_epochs} | relu.measure(model, data))
            assert [row["epoch"] for row in rows] == list(range(max_epochs + 1))  # from the initial weights on
    whole, cut = (tmp_path / name / "dynamics.csv" for name in ("whole", "cut"))
    assert whole.read_text() == cut.read_text()


def test_a_run_that_diverges_has_a_last_row(data: TimeMachine, tmp_path: Path) -> None:
    model = model_for(data, activation="relu", sigma=3.0, lr=1e30, hiddens=32)
    with pytest.raises(Diverged):
        fit(tmp_path / "run", model, data, [relu.callback(tmp_path / "run")], max_epochs=3)
    assert [row["epoch"] for row in read_numbers(tmp_path / "run/dynamics.csv")] == [0, 1]


STOPPED = "diverged in epoch 1, step 2: the loss is not finite (last finite gradient norm 3e+14)"


def relu_job(
    sweep: Path, activation: str, theta: float | None, *, seed: int, lr: float = 1.0, train: float = 8.0,
    norms: tuple[float, ...] = (0.5, 0.4, 0.3), dead: float = 0.0, message: str | None = None,
) -> None:  # fmt: skip
    """A folder as train.py leaves it. With a message the run was stopped in its first epoch."""
    start = {"epoch": 0, "spectral_radius": 4.0, "largest_activation": 1e14, "dead_share": 0, "saturated_share": 0}
    last = math.nan if message else dead
    end = {"epoch": 1, "spectral_radius": math.nan if message else 2.0, "largest_activation": 9}
    end |= {"dead_share": last, "saturated_share": last if activation == "tanh" else math.nan}
    steps = [
        {"epoch": 1, "step": number, "loss": norm, "grad_norm": norm, "grad_norm_clipped": min(norm, theta or math.inf)}
        for number, norm in enumerate(norms, 1)
    ]
    tables = {"steps": steps, "dynamics": [start, end]}
    perplexities = [{"train/perplexity": value, "val/perplexity": value + 1} for value in (min(train, 15.0), train)]
    if not message:
        tables["metrics"] = [{"epoch": epoch, **found} for epoch, found in enumerate(perplexities, 1)]
    model = {"lr": lr, "activation": activation, "sigma": 0.6}
    settings = {"seed": seed, "model": model, "trainer": {"gradient_clip_val": theta}}
    status, metrics = "diverged" if message or train > 27 else "completed", {} if message else perplexities[-1]
    leave_job(sweep, settings, status=status, message=message, metrics=metrics, tables=tables)


def test_the_report_has_a_row_for_each_setting_and_counts_pairs_that_differ_in_clipping_alone(tmp_path: Path) -> None:
    folder = tmp_path / "relu"
    for seed in (0, 1):
        relu_job(folder, "relu", None, seed=seed, norms=(3e14 * (seed + 1), math.nan), message=STOPPED)
        relu_job(folder, "relu", 1.0, seed=seed, norms=(3e14, 2.0, 0.3), train=12.0 + seed)
        relu_job(folder, "relu", 1.0, seed=seed, lr=8.0, train=16.6 + 0.2 * seed, dead=1.0)
        relu_job(folder, "tanh", None, seed=seed, dead=0.5)
        relu_job(folder, "tanh", 1.0, seed=seed, train=8.0 + 20 * seed)
    found = relu.findings(load_jobs(folder))
    table = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    assert [row["activation"] for row in table] == ["tanh", "tanh", "ReLU", "ReLU", "ReLU"]
    assert [row["η"] for row in table] == ["1", "1", "1", "1", "8"]
    assert [row["radius θ"] for row in table] == ["none", "1", "none", "1", "1"]
    assert [row["learnt"] for row in table] == ["2", "1", "0", "2", "0"]
    assert [row["learnt nothing"] for row in table] == ["0", "0", "0", "0", "2"]  # all units dead
    assert [row["diverged"] for row in table] == ["0", "1", "2", "0", "0"]
    assert [row["at"] for row in table] == ["", "epoch 2", "epoch 1, step 2", "", ""]
    assert [row["train"] for row in table] == ["8.00 ± 0.00", "8.000", "–", "12.50 ± 0.71", "–"]
    assert [row["first norm"] for row in table] == ["0.5", "0.5", "3e+14 to 6e+14", "3e+14", "0.5"]
    assert [row["ρ at the end"] for row in table] == ["2.00 ± 0.00"] * 2 + ["–"] + ["2.00 ± 0.00"] * 2
    assert [row["dead or saturated at the end"] for row in table] == ["50%", "0%", "–", "0%", "100%"]
    text = " ".join([found.answer, *found.longer])
    for number in ("of 2 pairs of ReLU", "2 learn only with it", "2 of 2 ReLU runs", "2 pairs of tanh", "0.5 to 6e+14"):
        assert number in text

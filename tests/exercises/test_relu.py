"""Exercise 10: the recurrence over training, and what its report makes of the jobs' folders."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from timemachine.runs.metrics import RunLog

from tests.support.jobs import leave_job
from timemachine.config import Train
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import Diverged
from timemachine.exercises import relu
from timemachine.exercises.report import write_report
from timemachine.language_model import RNNLMScratch
from timemachine.runs.rows import read_numbers
from timemachine.runs.sweep import load_jobs
from timemachine.training.trainer import build_trainer


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


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_have_no_spectral_radius(value: float, data: TimeMachine) -> None:
    model = model_for(data)
    with torch.no_grad():
        model.get_parameter("rnn.W_hh")[0, 1] = value
    measured = relu.measure(model, data)
    assert math.isnan(measured["spectral_radius"])
    assert math.isnan(measured["dead_share"])


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


def test_a_unit_that_wakes_for_one_character_is_not_dead(data: TimeMachine) -> None:
    model = model_for(data, activation="relu", sigma=0)
    with torch.no_grad():
        model.get_parameter("rnn.W_xh")[data.vocab[" "], 0] = 1.0
    assert relu.measure(model, data)["dead_share"] == 0.75


def test_tanh_units_that_are_saturated_at_every_position_are_counted(data: TimeMachine) -> None:
    model = model_for(data, sigma=0)
    with torch.no_grad():
        model.get_parameter("rnn.b_h").copy_(torch.tensor([9.0, -9.0, 1.0, 0.0]))
    measured = relu.measure(model, data)
    assert measured["saturated_share"] == 0.5
    assert measured["dead_share"] == 0.25
    assert measured["largest_activation"] == pytest.approx(1)


def test_an_embedding_is_measured_too(data: TimeMachine) -> None:
    assert relu.measure(model_for(data, input="embedding", embedding_dim=3), data)["largest_activation"] > 0


def trainer_for(folder: Path, **settings: Any) -> Trainer:
    chosen = Train(probes=["dynamics"])
    for name, value in {"accelerator": "cpu", "max_epochs": 3, "enable_checkpointing": False, **settings}.items():
        setattr(chosen.trainer, name, value)
    return build_trainer(chosen, folder, [RunLog(folder)], quiet=True)


def test_each_epoch_has_a_row_after_that_of_the_initial_weights(data: TimeMachine, tmp_path: Path) -> None:
    model = model_for(data)
    initial = relu.measure(model, data)
    trainer_for(tmp_path).fit(model, data)
    rows = read_numbers(tmp_path / "dynamics.csv")
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3]
    assert rows[0] == pytest.approx({"epoch": 0} | initial)
    assert rows[-1] == pytest.approx({"epoch": 3} | relu.measure(model, data))


def test_measuring_leaves_training_as_it_is(data: TimeMachine, sample: Corpus, tmp_path: Path) -> None:
    measured, plain = model_for(data), model_for(data)
    trainer_for(tmp_path).fit(measured, data)
    again = TimeMachine(batch_size=64, num_steps=8, num_train=128, num_val=64, corpus=sample)
    Trainer(
        accelerator="cpu", max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, gradient_clip_val=None,
    ).fit(plain, again)  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(measured.parameters(), plain.parameters(), strict=True))


def test_a_run_that_goes_on_has_the_rows_of_one_that_never_broke_off(data: TimeMachine, tmp_path: Path) -> None:
    for name, parts in (("whole", [3]), ("cut", [2, 3])):
        data.generator.manual_seed(0)
        model, folder = model_for(data), tmp_path / name
        folder.mkdir()
        for number, max_epochs in enumerate(parts):
            if number:
                with (folder / "dynamics.csv").open("a") as file:
                    file.write("3,1,1,1,1\n4,")  # of an epoch without a checkpoint, and of one that was cut short
            trainer = trainer_for(folder, max_epochs=max_epochs, enable_checkpointing=True, num_sanity_val_steps=0)
            last = folder / "checkpoints" / "last.ckpt"
            trainer.fit(model, data, ckpt_path=last if number else None)
    whole, cut = (tmp_path / name / "dynamics.csv" for name in ("whole", "cut"))
    assert whole.read_text() == cut.read_text() and whole.read_text().count("\n") == 5


def test_a_run_that_diverges_has_a_last_row(data: TimeMachine, tmp_path: Path) -> None:
    model = model_for(data, activation="relu", sigma=3.0, lr=1e30, hiddens=32)
    with pytest.raises(Diverged):
        trainer_for(tmp_path).fit(model, data)
    assert [row["epoch"] for row in read_numbers(tmp_path / "dynamics.csv")] == [0, 1]


def test_only_who_asks_pays(tmp_path: Path) -> None:
    trainer = build_trainer(Train(), tmp_path, [RunLog(tmp_path)], quiet=True)
    assert not any(isinstance(callback, relu.Watch) for callback in trainer.callbacks)  # type: ignore[attr-defined]


STOPPED = "diverged in epoch 1, step 2: the loss is not finite (last finite gradient norm 3e+14)"


def relu_job(
    sweep: Path, activation: str, sigma: float, theta: float | None, *, seed: int = 0, lr: float = 1.0,
    train: float = 8.0, norms: tuple[float, ...] = (0.5, 0.4, 0.3), dead: float = 0.0, message: str | None = None,
    status: str = "completed",
) -> Path:  # fmt: skip
    """A folder as train.py leaves it. With a message the run was stopped in its first epoch."""
    last = math.nan if message else dead
    tables = {
        "steps": [
            {"epoch": 1, "step": number + 1, "loss": math.nan if math.isnan(norm) else 3.0 - number / 10,
             "grad_norm": norm, "grad_norm_clipped": min(norm, theta or math.inf)}
            for number, norm in enumerate(norms)
        ],
        "dynamics": [
            {"epoch": 0, "spectral_radius": 4.0, "largest_activation": 1e14, "dead_share": 0,
             "saturated_share": math.nan},
            {"epoch": 1, "spectral_radius": math.nan if message else 2.0, "largest_activation": 0 if dead == 1 else 9,
             "dead_share": last, "saturated_share": last if activation == "tanh" else math.nan},
        ],
    }  # fmt: skip
    if not message:
        tables["metrics"] = [
            {"epoch": epoch + 1, "train/perplexity": value, "val/perplexity": value + 1}
            for epoch, value in enumerate((min(train, 15.0), train))
        ]
    model = {"lr": lr, "activation": activation, "sigma": sigma}
    return leave_job(
        sweep,
        {"seed": seed, "model": model, "trainer": {"gradient_clip_val": theta}},
        status="diverged" if message or train > 27 else status,
        message=message,
        metrics={} if message else {"train/perplexity": train, "val/perplexity": train + 1},
        tables=tables,
    )


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "relu"
    folder.mkdir()
    for seed in (0, 1):
        relu_job(folder, "relu", 0.6, None, seed=seed, norms=(3e14 * (seed + 1), math.nan), message=STOPPED)
        relu_job(folder, "relu", 0.6, 1.0, seed=seed, norms=(3e14, 2.0, 0.3), train=12.0 + seed)
        relu_job(folder, "relu", 0.6, 1.0, seed=seed, lr=8.0, train=16.6 + 0.2 * seed, dead=1.0)
        relu_job(folder, "tanh", 0.6, None, seed=seed, dead=0.5)
        relu_job(folder, "tanh", 0.6, 1.0, seed=seed, train=8.0 + 20 * seed)
    return folder


def cells(folder: Path) -> list[dict[str, str]]:
    found = relu.findings(load_jobs(folder))
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def test_a_row_for_each_activation_sigma_rate_and_radius(sweep: Path) -> None:
    table = cells(sweep)
    assert [(row["activation"], row["η"], row["radius θ"]) for row in table] == [
        ("tanh", "1", "none"), ("tanh", "1", "1"), ("ReLU", "1", "none"), ("ReLU", "1", "1"), ("ReLU", "8", "1"),
    ]  # fmt: skip
    assert [row["learnt"] for row in table] == ["2", "1", "0", "2", "0"]
    assert [row["learnt nothing"] for row in table] == ["0", "0", "0", "0", "2"]  # all units dead
    assert [row["diverged"] for row in table] == ["0", "1", "2", "0", "0"]
    assert [row["at"] for row in table] == ["", "epoch 2", "epoch 1, step 2", "", ""]
    assert [row["train"] for row in table] == ["8.00 ± 0.00", "8.000", "–", "12.50 ± 0.71", "–"]
    assert [row["first norm"] for row in table] == ["0.5", "0.5", "3e+14 to 6e+14", "3e+14", "0.5"]
    assert [row["largest norm"] for row in table] == ["0.5", "0.5", "6e+14", "3e+14", "0.5"]
    assert [row["ρ at the start"] for row in table] == ["4.00 ± 0.00"] * 5
    assert [row["ρ at the end"] for row in table] == ["2.00 ± 0.00"] * 2 + ["–"] + ["2.00 ± 0.00"] * 2
    assert [row["largest |h|"] for row in table] == ["1e+14"] * 5
    assert [row["dead or saturated at the end"] for row in table] == ["50%", "0%", "–", "0%", "100%"]


def test_the_answer_has_the_numbers_of_the_jobs(sweep: Path) -> None:
    found = relu.findings(load_jobs(sweep))
    assert found.answer == (
        "Yes: of 2 pairs of ReLU runs that differ in clipping alone 2 learn only with it, "
        "0 only without it, 0 both ways, 0 neither way. At the smallest σ, 0.6, 2 of 2 ReLU runs without clipping "
        "diverge."
    )
    longer = " ".join(found.longer)
    assert "Of 2 pairs of tanh runs that differ in clipping alone 0 learn only with it, 1 only without it" in longer
    assert "has a norm of 0.5 to 6e+14 (tanh: 0.5)" in longer
    assert "are at rate 1 0% with σ = 0.6; at rate 8 100% with σ = 0.6. In 0 of these 4 runs" in longer


def test_where_clipping_is_needed_is_said_with_its_initial_scale(tmp_path: Path) -> None:
    for sigma in (0.01, 0.3):
        relu_job(tmp_path / "s", "relu", sigma, None, message=STOPPED if sigma == 0.3 else None)
        relu_job(tmp_path / "s", "relu", sigma, 1.0)
    answer = relu.findings(load_jobs(tmp_path / "s")).answer
    assert answer.startswith("Yes, where the initial weights are wide: of 2 pairs")
    assert "1 learn only with it, all of them at σ = 0.3," in answer
    assert answer.endswith("At the smallest σ, 0.01, none of 1 ReLU runs without clipping diverge.")


def test_a_run_that_ends_above_the_frequencies_of_the_letters_has_learnt_nothing(tmp_path: Path) -> None:
    """Once such a tanh run, at 24.14 of 28, was "0 of 1 diverged" and "every run learns"."""
    relu_job(tmp_path / "s", "tanh", 0.6, None, train=24.1)
    relu_job(tmp_path / "s", "relu", 0.6, 1.0, train=16.0)  # validation 17
    (tanh, of_relu) = cells(tmp_path / "s")
    assert [(row["learnt"], row["learnt nothing"], row["diverged"]) for row in (tanh, of_relu)] == [("0", "1", "0")] * 2


def test_units_that_wake_again_are_counted(tmp_path: Path) -> None:
    folder = relu_job(tmp_path / "s", "relu", 0.6, 1.0, dead=0.25)
    rows = (folder / "dynamics.csv").read_text()
    (folder / "dynamics.csv").write_text(
        rows.replace("0,4.0,1e+14,0,", "0,4.0,1e+14,0.75,").replace(
            "0,4.0,100000000000000.0,0,", "0,4.0,100000000000000.0,0.75,"
        )
    )
    longer = " ".join(relu.findings(load_jobs(tmp_path / "s")).longer)
    assert "In 1 of these 1 runs the share has been larger before" in longer


def test_clipping_that_changes_nothing_is_not_called_needed(tmp_path: Path) -> None:
    for theta in (None, 1.0):
        relu_job(tmp_path, "relu", 0.01, theta)
    found = relu.findings(load_jobs(tmp_path))
    assert found.answer.startswith("Not in these runs: of 1 pairs of ReLU runs")


@pytest.mark.parametrize("left", ["nothing", "one", "one_stopped", "tanh_only", "no_tables", "failed"])
def test_whatever_is_there_has_a_report(left: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if left == "one":
        relu_job(tmp_path, "relu", 0.6, None, dead=1.0, train=16.8)
    elif left == "one_stopped":
        relu_job(tmp_path, "relu", 0.6, None, norms=(math.inf,), message=STOPPED)
    elif left == "tanh_only":
        relu_job(tmp_path, "tanh", 0.6, 1.0)
    elif left == "no_tables":
        for name in ("steps", "metrics", "dynamics"):
            (relu_job(tmp_path, "relu", 0.6, 1.0, message=STOPPED) / f"{name}.csv").unlink(missing_ok=True)
    elif left == "failed":
        relu_job(tmp_path, "relu", 0.6, 1.0, status="running")
        (relu_job(tmp_path, "relu", 0.6, None) / "summary.json").write_text('{"status": "runn')
    write_report(tmp_path, "relu")
    report = (tmp_path / "report.md").read_text()
    for figure in ("dynamics", "bound"):
        assert f"({figure}.png)" in report
        assert (tmp_path / f"{figure}.png").stat().st_size > 1000
    assert "## Answer" in report
    assert "report.md" in capsys.readouterr().out


def test_a_run_that_was_never_validated_counts_as_far_from_the_letters(tmp_path: Path) -> None:
    settings = {"seed": 0, "model": {"activation": "relu", "sigma": 0.01, "lr": 1.0}}
    settings |= {"trainer": {"gradient_clip_val": None}}
    leave_job(tmp_path / "s", settings, metrics={"train/perplexity": 8.0})
    assert relu.findings(load_jobs(tmp_path / "s")).answer.endswith("none of 1 ReLU runs without clipping diverge.")

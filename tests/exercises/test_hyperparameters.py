"""Exercise 4: what is measured while a run trains, and the report of a grid and of its leading settings."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.jobs import leave_job
from tests.support.runs import fit
from timemachine.datamodule import TimeMachine
from timemachine.evaluation import scores
from timemachine.exercises import hyperparameters
from timemachine.exercises.stream import parts, stream_nll
from timemachine.language_model import RNNLMScratch
from timemachine.run.jobs import load_jobs


class Noisy(RNNLMScratch):
    """Dropout in training."""

    def output_layer(self, H_TBH: Tensor) -> Tensor:
        return super().output_layer(torch.nn.functional.dropout(H_TBH, 0.5, self.training))


def test_streams_side_by_side_read_what_one_stream_reads() -> None:
    torch.manual_seed(0)
    model, chars_N = Noisy(28, hiddens=8, sigma=0.3), torch.randint(28, (3_000,))
    targets = range(700, 2_995)  # 2,295, which 32 do not divide
    nll_N = stream_nll(model, chars_N, targets)
    torch.testing.assert_close(nll_N, scores.stream_nll(model.eval(), chars_N, targets), rtol=1e-5, atol=1e-5)


def test_shares_of_a_resumed_run(tmp_path: Path) -> None:
    data, folder = TimeMachine(64, 4, 2_000, 1_000, corpus="sample"), tmp_path / "run"
    for max_epochs in (1, 2):  # of 32 updates
        model = RNNLMScratch(28, hiddens=4)
        fit(folder, model, data, [hyperparameters.callback(folder)], max_steps=64, max_epochs=max_epochs)
        nats = hyperparameters.measure(model, data)
    assert [*nats] == ["4", "8", "16", "32", "64"]  # it was to have 32 at first
    for part, value in nats["64"].items():
        nll_N = scores.stream_nll(model, data.chars_N, parts(data)[part])
        assert value == pytest.approx(nll_N.mean().item(), abs=1e-6)
    assert nats["4"]["val"] > nats["64"]["val"]


def leave_run(sweep: Path, hiddens: int, nats: dict[int, tuple[float, float]], seed: int = 0) -> None:
    """Leave a run of 32 time steps and a rate of 1, with the nats of validation and rest by the number of updates."""
    settings = {"seed": seed, "model": {"hiddens": hiddens, "lr": 1.0}, "data": {"num_steps": 32}}
    measured = {str(updates): {"val": val, "test": test} for updates, (val, test) in nats.items()}
    leave_job(sweep, settings, probes={"hyperparameters": measured})


def test_settings_are_chosen_on_validation(tmp_path: Path) -> None:
    leave_run(tmp_path / "s", 32, {500: (2.2, 2.3), 1000: (2.0, 2.2)})
    leave_run(tmp_path / "s", 64, {500: (1.8, 2.25), 1000: (1.9, 2.5)})
    leave_run(tmp_path / "s", 16, {500: (2.4, 2.1), 1000: (2.3, 2.15)})
    leave_job(tmp_path / "s", {"seed": 0, "model": {"hiddens": 128, "lr": 1.0}}, status="diverged")
    found = hyperparameters.findings(load_jobs(tmp_path / "s"))
    assert [(row[0], row[3]) for row in found.rows] == [("64", "500"), ("32", "1000"), ("16", "1000")]
    assert "9.49 instead of 9.03" in found.answer
    assert found.rows[0][-2:] == ["+0.050", ""]  # of one seed nothing is claimed
    assert "16 units, 32 time steps, a rate of 1 and 500" in found.notes[0]


def test_several_seeds_allow_a_claim(tmp_path: Path) -> None:
    for seed in range(3):
        leave_run(tmp_path / "s", 32, {1000: (2.0 + seed, 2.2 + seed)}, seed)
        leave_run(tmp_path / "s", 64, {1000: (1.9 + seed, 2.1 + seed + seed / 1000)}, seed)
    found = hyperparameters.findings(load_jobs(tmp_path / "s"))
    assert found.rows[0][-2:] == ["-0.099 ± 0.002", "lower"]
    assert "-0.099 ± 0.002" in found.answer

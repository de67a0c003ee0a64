"""The report of the exercise on cells."""

import math
from pathlib import Path

import pytest

from tests.support.jobs import leave_job
from timemachine.exercises import cells
from timemachine.run.jobs import load_jobs

STARTS = (0, 4000, 8000)
PARAMETERS = {("rnn", 12): 800, ("gru", 6): 790, ("lstm", 5): 920, ("deep_rnn", 7): 810, ("rnn", 48): 5000}


def leave_run(sweep: Path, model: tuple[str, int], rate: float, start: int, nats: tuple[float, float]) -> None:
    cell, hiddens = model
    settings = {"seed": start, "model": {"cell": cell, "hiddens": hiddens, "lr": rate}, "data": {"start": start}}
    stream = {part: {"perplexity": math.exp(it)} for part, it in zip(("val", "test"), nats, strict=True)}
    leave_job(sweep, settings, probes={"stream": stream}, parameters=PARAMETERS[model])


def test_rates_are_chosen_on_validation(tmp_path: Path) -> None:
    """Choosing on the rest of the text would give the other rate. Excerpts differ more than cells."""
    for start in STARTS:
        drift, noise = start / 4000, start % 3 / 1000
        for number, model in enumerate(PARAMETERS):
            less = 0.1 * number + noise
            leave_run(tmp_path / "s", model, 0.01, start, (2 + drift - less, 2.2 + drift - less))
            leave_run(tmp_path / "s", model, 0.1, start, (2.1 + drift - less, 1.9 + drift - less))
    found = cells.findings(load_jobs(tmp_path / "s"))
    assert {row[3] for row in found.rows} == {"0.01"}
    assert [row[2] for row in found.rows] == ["12", "6", "5", "7", "48"]
    by_cell = {row[1]: row for row in found.rows if row[2] != "48"}
    for number, cell in enumerate(("GRU", "LSTM", "deep RNN"), 1):
        assert float(by_cell[cell][-2].split()[0]) == pytest.approx(-0.1 * number, abs=1e-3)
        assert by_cell[cell][-1] == "lower"


def test_a_rate_needs_every_excerpt(tmp_path: Path) -> None:
    for start in STARTS:
        leave_run(tmp_path / "s", ("rnn", 12), 0.01, start, (2.0, 2.0))
    leave_run(tmp_path / "s", ("rnn", 12), 0.1, 0, (1.0, 1.0))
    settings = {"seed": 1, "model": {"cell": "rnn", "hiddens": 12, "lr": 0.1}, "data": {"start": 4000}}
    leave_job(tmp_path / "s", settings, status="diverged", parameters=800)
    found = cells.findings(load_jobs(tmp_path / "s"))
    assert [row[3] for row in found.rows] == ["0.01"]

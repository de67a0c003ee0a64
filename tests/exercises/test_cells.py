"""The exercise on cells, and the choice of settings on the validation text."""

import numpy as np
import pandas as pd
import pytest
from pandas import DataFrame

from timemachine.exercises import cells
from timemachine.exercises.comparison import at_best

MODELS = {("rnn", 12): 800, ("gru", 6): 790, ("lstm", 5): 920, ("rnn", 48): 5000}  # parameters
LEADS = {"slow": 0.2, "best": 0.05}  # of the GRU and the LSTM
GAINS = {"rnn": 0.25, "gru": 0.1, "lstm": 0.1}  # of the best factor, 10


def jobs() -> DataFrame:
    """Return runs at two factors and rates: on validation a rate of 0.01 is better, on the rest 0.1 seems so."""
    return DataFrame(
        {"status": "completed", "seed": start, "data.start": start, "trainer.max_steps": 100, "model.cell": cell,
         "model.hiddens": hiddens, "model.forget_bias": 0.0, "model.lr": rate, "model.input_lr_factor": factor,
         "parameters": parameters,
         "stream/val/perplexity": np.exp(2 + start / 4000 - less + worse),
         "stream/test/perplexity": np.exp(2.2 + start / 4000 - less - 3 * worse)}
        for (cell, hiddens), parameters in MODELS.items()
        for rate, worse in ((0.01, 0), (0.1, 0.1))
        for factor in (1, 10)
        for start in (0, 4000, 8000)
        for less in [(cell != "rnn") * 0.2 + (factor == 10) * GAINS[cell] + (cell == "gru") * start / 4e6]
    )  # fmt: skip


def test_leads_gains_and_falls() -> None:
    rows = cells.table(jobs()).reset_index()
    assert (rows["rate"] == 0.01).all() and (rows["runs"] == 3).all() and len(rows) == 8
    by_model = rows.set_index(["cell", "units", "factor"])
    for cell, units in (("GRU", 6), ("LSTM", 5)):
        for factor, lead in ((1, LEADS["slow"]), (10, LEADS["best"])):
            assert float(by_model.loc[(cell, units, factor), "lead"].strip("*").split()[0]) == pytest.approx(
                lead, abs=2e-3
            )
        assert by_model.loc[(cell, units, 10), "left"].startswith("25%")
        fall = by_model.loc[(cell, units, 10), "fall"].strip("*").split()[0]
        assert float(fall) == pytest.approx(LEADS["slow"] - LEADS["best"])
    assert float(by_model.loc[("RNN", 12, 10), "gain"].strip("*").split()[0]) == pytest.approx(GAINS["rnn"])
    assert pd.isna(by_model.loc[("RNN", 48, 1), "lead"])


def test_share_needs_a_lead() -> None:
    runs = jobs()
    worse = (runs["model.cell"] == "gru") & (runs["data.start"] == 0) & (runs["model.input_lr_factor"] == 1)
    runs.loc[worse, "stream/test/perplexity"] = 1000.0
    assert {key[-1] for key in cells.shares(cells.losses(cells.chosen(runs), "data.start"))} == {"LSTM"}
    assert cells.figure(runs).axes


def test_a_choice_needs_every_excerpt() -> None:
    """The rate at which a run diverged is not chosen, although the others of its runs are better."""
    runs = jobs()[lambda rows: rows["model.cell"] == "rnn"]
    fast = runs["model.lr"] == 0.1
    runs.loc[fast, "stream/val/perplexity"] = 1.0
    runs.loc[fast & (runs["data.start"] == 0), "status"] = "diverged"
    best = at_best(runs, ["model.lr"], ["model.hiddens"], "stream/val/perplexity")
    assert [*best.groupby("model.hiddens")["model.lr"].unique()] == [[0.01], [0.01]] and len(best) == 12

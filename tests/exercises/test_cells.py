"""The exercise on cells, and the choice of a learning rate."""

import numpy as np
import pytest
from pandas import DataFrame

from timemachine.exercises import cells
from timemachine.exercises.comparison import at_best_rate

MODELS = {("rnn", 12): 800, ("gru", 6): 790, ("lstm", 5): 920, ("deep_rnn", 7): 810, ("rnn", 48): 5000}  # parameters


def jobs() -> DataFrame:
    """Return runs at two rates: on validation 0.01 is better, on the rest of the text 0.1. Excerpts differ most."""
    return DataFrame(
        {"status": "completed", "seed": start, "data.start": start, "model.cell": cell, "model.hiddens": hiddens,
         "model.lr": rate, "parameters": parameters,
         "stream/val/perplexity": np.exp(2 + start / 4000 - less + worse),
         "stream/test/perplexity": np.exp(2.2 + start / 4000 - less - 3 * worse)}
        for number, ((cell, hiddens), parameters) in enumerate(MODELS.items())
        for rate, worse in ((0.01, 0), (0.1, 0.1))
        for start in (0, 4000, 8000)
        for less in [number * (0.1 + start % 3 / 1000)]
    )  # fmt: skip


def test_cells_of_one_size_are_compared() -> None:
    table = cells.table(jobs()).reset_index()
    assert (table["rate"] == 0.01).all() and (table["excerpts"] == 3).all()
    differences = table.set_index(["cell", "units"])[[cells.VERSUS, ""]]
    for number, (cell, hiddens) in enumerate((("GRU", 6), ("LSTM", 5), ("deep RNN", 7)), 1):
        difference, word = differences.loc[(cell, hiddens)]
        assert float(difference.split()[0]) == pytest.approx(-0.101 * number, abs=1e-3) and word == "lower"
    assert differences.loc["RNN"].isna().all(axis=None)


def test_a_rate_needs_every_excerpt() -> None:
    """The rate at which a run diverged is not chosen, although the others of its runs are better."""
    runs = jobs()[lambda rows: rows["model.cell"] == "rnn"]
    fast = runs["model.lr"] == 0.1
    runs.loc[fast, "stream/val/perplexity"] = 1.0
    runs.loc[fast & (runs["data.start"] == 0), "status"] = "diverged"
    best = at_best_rate(runs, ["model.hiddens"], "stream/val/perplexity")
    assert [*best.groupby("model.hiddens")["model.lr"].unique()] == [[0.01], [0.01]] and len(best) == 6

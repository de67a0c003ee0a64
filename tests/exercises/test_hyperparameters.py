"""Exercise 4: measurements during training, and the table of settings."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pandas import DataFrame

from tests.support.runs import fit
from timemachine.datamodule import TimeMachine
from timemachine.evaluation import scores
from timemachine.exercises import hyperparameters
from timemachine.language_model import RNNLMScratch


def test_shares_of_a_resumed_run(tmp_path: Path) -> None:
    data, folder = TimeMachine(64, 4, 2_000, 1_000, corpus="sample"), tmp_path / "run"
    for max_epochs in (1, 2):  # of 32 updates each
        model = RNNLMScratch(28, hiddens=4)
        fit(folder, model, data, [hyperparameters.callback()], max_steps=64, max_epochs=max_epochs)
        nats = hyperparameters.measure(model, data)
    assert [*nats] == ["4", "8", "16", "32", "64"]  # the first run ends at update 32
    for part, value in nats["64"].items():
        nll_N = scores.stream_nll(model, data.tokens_N, data.splits[part].targets)
        assert value == pytest.approx(nll_N.mean().item(), abs=1e-6)
    assert nats["4"]["val"] > nats["64"]["val"]


def test_settings_are_sorted_by_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has the best settings and the recipe's. A diverged measurement is ignored, and bits are per byte."""
    monkeypatch.setattr(hyperparameters, "NUM_LOWEST", 2)
    jobs = DataFrame(
        {"data.start": start, "model.hiddens": 32, "data.num_steps": window, "model.lr": 1.0, "val/perplexity": 8.0,
         "val/bits_per_byte": 1.5, "hyperparameters/500/val": 2.5 + start, "hyperparameters/500/test": 2.6 + start,
         "hyperparameters/1000/val": 2.2 + start - less, "hyperparameters/1000/test": 2.3 + start - less * (1 + start)}
        for window, less in ((32, 0), (16, 0.1), (8, 0.2))
        for start in (0, 0.1, 0.2)
    )  # fmt: skip
    jobs.loc[jobs.index[-1], "hyperparameters/1000/test"] = 50.0
    table, (axes,) = hyperparameters.table(jobs), hyperparameters.figure(jobs).axes
    recipe: Any = axes.containers[2]
    assert [*recipe[0].get_ydata()] == pytest.approx([0.3, 0])  # the recipe's own point is drawn, without an interval
    assert [*table["excerpts"]] == [2, 3, 3]
    assert [*table.index] == [(32, window, 1, 1000) for window in (8, 16, 32)]
    assert [*table[hyperparameters.VERSUS].str.split().str[0]][:2] == ["-0.210", "-0.110"]
    rest = 2.3 + np.array([0, 0.1, 0.2])
    base = table.loc[(32, 32, 1, 1000)]
    assert base["rest of the text"].mean == pytest.approx(np.exp(rest).mean())
    assert base[hyperparameters.BITS].mean == pytest.approx(rest.mean() * 1.5 / np.log(8))

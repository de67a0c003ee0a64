"""The exercise on cells, the size of input weights during training, and the choice of settings on validation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pandas import DataFrame

from tests.support.runs import fit
from timemachine.datamodule import TimeMachine
from timemachine.exercises import cells
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.study.comparison import at_best

MODELS = {("rnn", 12): 800, ("gru", 6): 790, ("lstm", 5): 920, ("rnn", 48): 5000}  # parameters
# Way -> factor, scale, and how much lower the losses of the RNN and of the gated cells are.
WAYS: dict[str, tuple[float, float | None, float, float]] = {
    "one rate": (1, None, 0, 0.2),
    "faster inputs": (10, None, 0.25, 0.3),
    "larger inputs": (1, 2.0, 0.3, 0.15),
}


def jobs(texts: str = "abcd") -> DataFrame:
    """Return a run per text, model and way. The GRU's lead differs between texts by up to 0.0003 nats."""
    return DataFrame(
        {"status": "completed", "seed": 0, "data.start": 0, "data.corpus": text, "trainer.max_steps": 100,
         "model.optimizer": "adamw", "model.schedule": "constant", "model.cell": cell, "model.hiddens": hiddens,
         "model.lr": 0.01, "model.input_lr_factor": factor, "model.sigma_xh": scale, "parameters": parameters,
         "stream/val/perplexity": 7.0, "stream/test/perplexity": np.exp(2 + place / 5 - less), "cells/rms/0": 0.01}
        for place, text in enumerate(texts)
        for (cell, hiddens), parameters in MODELS.items()
        for factor, scale, plain, gated in WAYS.values()
        for less in [plain if cell == "rnn" else gated + (cell == "gru") * place / 1e4]
    )  # fmt: skip


def number(cell: Any) -> float:
    """Return the mean of a printed estimate."""
    return float(str(cell).strip("*").split()[0])


def test_leads_and_gains_of_each_way() -> None:
    rows = cells.table(jobs()).reset_index()
    assert len(rows) == len(MODELS) * len(WAYS) and (rows["novels"] == 4).all()
    by_model = rows.set_index(["cell", "units", "way"])
    for way, (factor, scale, plain, gated) in WAYS.items():
        for cell, units in (("GRU", 6), ("LSTM", 5)):
            row = by_model.loc[(cell, units, way)]
            assert number(row["lead"]) == pytest.approx(gated - plain, abs=1e-3)
            assert (row["factor"], row["scale"]) == (factor, scale or 0.01)
            if way != "one rate":
                assert number(f"{row['gain']:.3f}") == pytest.approx(gated - 0.2, abs=1e-3)
        assert np.isnan(by_model.loc[("RNN", 48, way), "lead"])
    assert "**" in by_model.loc[("GRU", 6, "one rate"), "lead"]
    assert cells.figure(jobs()).axes


@pytest.mark.parametrize("cell", ["rnn", "gru", "deep_rnn"])
def test_size_of_input_weights_is_measured(cell: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = TimeMachine(50, 4, 200, 50, corpus="sample")
    model = FusedRNNLM(len(data.vocab), 40, cell=cell, sigma_xh=2)
    weights = cells.InputWeights()
    fit(tmp_path, model, data, [weights], max_epochs=2)
    measured = cells.measure(model, data)["rms"]
    assert [*measured] == ["0", "25", "50", "75", "100"]
    assert measured["0"] == pytest.approx(2, rel=0.1)
    names = [name for name, _ in model.rnn.named_parameters() if name.removeprefix("rnns.0.").startswith("W_x")]
    last = torch.cat([model.rnn.get_parameter(name).flatten() for name in names])
    assert measured["100"] == pytest.approx(last.square().mean().sqrt().item()) != measured["75"]


def test_a_choice_needs_every_excerpt() -> None:
    """The rate at which a run diverged is not chosen, although the others of its runs are better."""
    runs = DataFrame(
        {"status": "diverged" if rate == 0.1 and start == 0 else "completed", "model.hiddens": hiddens,
         "model.lr": rate, "data.start": start, "stream/val/perplexity": 1.0 if rate == 0.1 else 7.0}
        for hiddens in (12, 48) for rate in (0.01, 0.1) for start in (0, 4000, 8000)
    )  # fmt: skip
    best = at_best(runs, ["model.lr"], ["model.hiddens"], "stream/val/perplexity")
    assert [*best.groupby("model.hiddens")["model.lr"].unique()] == [[0.01], [0.01]] and len(best) == 6

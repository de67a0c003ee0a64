"""The exercise on cells, trained on other novels."""

import pytest
from pandas import DataFrame

from tests.exercises.test_cells import LEADS, jobs
from timemachine.exercises import cells_elsewhere, history


def elsewhere() -> DataFrame:
    """Return runs at the chosen rate, one per novel. The GRU's best factor is 1; 8 characters suffice everywhere."""
    runs = jobs().query("`model.lr` == 0.01 and (`model.cell` != 'gru' or `model.input_lr_factor` == 1)")
    near = {f"history/perplexity/{length}": 5.0 if length >= 8 else 6.0 for length in history.DISTANCES}
    changes = {f"history/tv/{steps_back}": 0.01 if steps_back <= 6 else 1e-9 for steps_back in history.DISTANCES}
    novels = {"data.corpus": runs["data.start"].map({0: "a", 4000: "b", 8000: "c"}), "data.start": 0}
    return runs.assign(**novels, **near, **changes, **{history.WHOLE: 5.0})


def test_models_are_compared_on_each_novel() -> None:
    rows = cells_elsewhere.table(elsewhere()).reset_index()
    assert len(rows) == 8 and (rows["runs"] == 3).all() and (rows["characters that suffice"] == 8).all()
    assert [each.mean for each in rows["reach"]] == pytest.approx([6] * 8)
    lstm = rows[rows["cell"] == "LSTM"].set_index("factor")["lead"].str.strip("*").str.split().str[0].astype(float)
    assert lstm.to_dict() == pytest.approx({1: LEADS["slow"], 10: LEADS["best"]}, abs=2e-3)
    assert (rows[rows["cell"] == "GRU"]["factor"] == 1).all()
    assert cells_elsewhere.figure(elsewhere()).axes

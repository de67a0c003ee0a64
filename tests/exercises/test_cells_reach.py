"""The exercise on how far back the cells read."""

import pytest
from pandas import DataFrame

from tests.exercises.test_cells import MODELS, jobs
from timemachine.exercises import cells_reach, history


def runs() -> DataFrame:
    """Return runs whose reach is 6 characters; 8 suffice, but the GRU on one novel needs 12."""
    of_both = jobs()[lambda rows: rows["model.sigma_xh"].isna()]
    near = {f"history/perplexity/{length}": 5.0 if length >= 8 else 6.0 for length in history.DISTANCES}
    changes = {f"history/tv/{steps_back}": 0.01 if steps_back <= 6 else 1e-9 for steps_back in history.DISTANCES}
    measured = of_both.assign(**near, **changes, **{history.WHOLE: 5.0})
    is_far = (measured["model.cell"] == "gru") & (measured["data.corpus"] == "b")
    measured.loc[is_far, "history/perplexity/8"] = 5.1
    return measured


def test_reach_of_each_model() -> None:
    rows = cells_reach.table(runs()).reset_index()
    assert len(rows) == 2 * len(MODELS) and (rows["novels"] == 4).all()
    assert [each.mean for each in rows["reach"]] == pytest.approx([6] * len(rows))
    assert rows.groupby("cell")["characters that suffice"].max().to_dict() == {"RNN": 8, "GRU": 12, "LSTM": 8}
    assert cells_reach.figure(runs()).axes

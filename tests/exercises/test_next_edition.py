"""Tables of the exercises for the next edition, on synthetic jobs. test_numbers.py has those of the kept sweeps."""

import pytest
from pandas import DataFrame

from timemachine.exercises import small_data, stream, tying


def test_tied_and_untied() -> None:
    """Untied models with faster inputs or smaller entries are no baseline, and a diverged run is counted."""
    jobs = DataFrame(
        {"status": "completed", "seed": start, "data.start": start, "parameters": 1000, "model.tie_weights": tied,
         "model.embedding_sigma": sigma, "model.lr": rate, "model.input_lr_factor": factor}
        | dict.fromkeys(stream.SCORES.values(), 2 + start / 4000 - less)
        for start in (0, 4000, 8000)
        for tied, sigma, rate, factor, less in (
            (False, 1.0, 4, 1, 0), (True, 1.0, 0.5, 1, -0.5), (True, 0.1, 4, 1, 0.25), (False, 1.0, 4, 16, 0.2),
            (False, 0.1, 4, 1, 0.1))
    )  # fmt: skip
    jobs.loc[1, "status"] = "diverged"
    table = tying.table(jobs).reset_index()
    assert [*table["output weights"]] == [
        "untied", "tied, σ = 1", "tied, σ = 0.1", "untied, inputs 16 times as fast", "untied, σ = 0.1",
    ]  # fmt: skip
    assert [*table["diverged"]] == [0, 1, 0, 0, 0]
    assert [*table[tying.VERSUS].str.split().str[0].astype(float)[1:]] == pytest.approx([0.5, -0.25, -0.2, -0.1])


def test_best_and_last_epoch() -> None:
    metrics = {"best_epoch": 8.0, "best_val/perplexity": 150.0, "val/perplexity": 900.0, "train/perplexity": 3.0,
               "best_val/bits_per_byte": 2.6, "val/bits_per_byte": 3.5}  # fmt: skip
    settings = {"data.start": 0, "data.num_train": 68, "data.num_steps": 32, "parameters": 1000}
    table = small_data.table(DataFrame([metrics | settings]))
    assert [*table.loc[0]] == [1000, 10, 8, 150, 900, 3, 2.6, 3.5]

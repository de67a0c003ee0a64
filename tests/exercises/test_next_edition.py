"""The tables of the exercises for the next edition, on synthetic jobs."""

from typing import Any

import numpy as np
import pytest
from pandas import DataFrame

from timemachine.exercises import small_data, tying, vocabulary

STARTS = (0, 4000, 8000)


def run(start: int, bits: float, bytes_per_token: float, **settings: Any) -> dict[str, Any]:
    """Return a run on one excerpt. It has 0.2 bits per byte more on test than on validation."""
    scores = {
        f"stream/{part}/{name}": value
        for part, per_byte in (("val", bits), ("test", bits + 0.2))
        for name, value in (("perplexity", 2 ** (per_byte * bytes_per_token)), ("bits", per_byte * bytes_per_token),
                            ("bits_per_byte", per_byte))
    }  # fmt: skip
    return {"status": "completed", "seed": start, "data.start": start, "parameters": 1000} | scores | settings


def test_vocabularies_compare_in_bits() -> None:
    """Perplexity grows with the length of the tokens, and the learning rate is chosen on validation."""
    jobs = DataFrame(
        run(start, 2 + start / 4000 + more + worse * (1 + start % 3 / 100), bytes_per_token,
            **{"data.vocab_size": size, "model.lr": rate})
        for start in STARTS
        for size, bytes_per_token, worse in ((512, 2, 0.1), (1024, 2.5, 0), (2048, 3, -0.1))
        for rate, more in ((0.003, 0), (0.009, 0.3))
    )  # fmt: skip
    table = vocabulary.table(jobs)
    assert [*table["bytes per token"]] == pytest.approx([2, 2.5, 3]) and (table["rate"] == 0.003).all()
    assert table[vocabulary.VERSUS].str.split().str[0].astype(float).dropna().to_dict() == {512: 0.101, 2048: -0.101}
    assert table[""].dropna().to_dict() == {512: "higher", 2048: "lower"}
    rest = np.exp2(3 * (2.2 - 0.1 * (1 + np.array(STARTS) % 3 / 100) + np.array(STARTS) / 4000)).mean()
    assert table["perplexity, rest of the text"][2048].mean == pytest.approx(rest)


def test_tied_and_untied() -> None:
    """Untied models with faster inputs or smaller entries are no baseline, and a diverged run is counted."""
    jobs = DataFrame(
        run(start, 2 + start / 4000 - less, 2.5, **{"model.tie_weights": tied, "model.embedding_sigma": sigma,
            "model.lr": rate, "model.input_lr_factor": factor})
        for start in STARTS
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

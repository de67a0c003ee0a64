"""The reports of the exercises for the next edition, on synthetic jobs."""

import math
from pathlib import Path
from typing import Any

import pytest

from tests.support.jobs import leave_job
from timemachine.exercises import small_data, tying, vocabulary
from timemachine.run.jobs import load_jobs

STARTS = (0, 4000, 8000)


def leave_run(sweep: Path, start: int, bits: float, bytes_per_token: float, **settings: Any) -> None:
    """Leave a run on one excerpt. It has 0.2 bits per byte more on test than on validation."""
    stream = {
        part: {"perplexity": 2 ** (it * bytes_per_token), "bits": it * bytes_per_token, "bits_per_byte": it}
        for part, it in (("val", bits), ("test", bits + 0.2))
    }
    settings["data"] = {"start": start} | settings.get("data", {})
    leave_job(sweep, {"seed": start} | settings, probes={"stream": stream}, parameters=1000)


def test_vocabularies_compare_in_bits(tmp_path: Path) -> None:
    """Perplexity grows with the length of the tokens, and the learning rate is chosen on validation."""
    for start in STARTS:
        drift, noise = start / 4000, start % 3 / 1000
        for size, bytes_per_token, fewer in ((512, 2, -0.1), (1024, 2.5, 0), (2048, 3, 0.1)):
            for rate, more in ((0.003, 0), (0.009, 0.3)):
                bits, data = 2 + drift - fewer + noise * fewer + more, {"vocab_size": size}
                leave_run(tmp_path / "s", start, bits, bytes_per_token, data=data, model={"lr": rate})
    found = vocabulary.findings(load_jobs(tmp_path / "s"))
    assert [row[:2] + row[3:5] for row in found.rows] == [
        ["512", "2.00", "0.003", "3"], ["1,024", "2.50", "0.003", "3"], ["2,048", "3.00", "0.003", "3"],
    ]  # fmt: skip
    differences = {row[0]: row[-2:] for row in found.rows}
    assert differences["1,024"] == ["", ""]
    for tokens, expected, word in (("512", 0.1, "higher"), ("2,048", -0.1, "lower")):
        difference, verdict = differences[tokens]
        assert float(difference.split()[0]) == pytest.approx(expected, abs=1e-3) and verdict == word
    rest = math.fsum(2 ** (3 * (2.1 + start / 4000)) for start in STARTS) / 3
    assert float(found.rows[2][6].split()[0]) == pytest.approx(rest, rel=0.01)


def test_tied_and_untied(tmp_path: Path) -> None:
    for start in STARTS:
        for tied, sigma, rate, factor, less in (
            (False, 1.0, 4, 1, 0), (True, 1.0, 0.5, 1, -0.5), (True, 0.1, 4, 1, 0.25), (False, 1.0, 4, 16, 0.2),
        ):  # fmt: skip
            model = {"tie_weights": tied, "embedding_sigma": sigma, "lr": rate, "input_lr_factor": factor}
            leave_run(tmp_path / "s", start, 2 + start / 4000 - less, 2.5, model=model, trainer={"max_epochs": 3})
    found = tying.findings(load_jobs(tmp_path / "s"))
    assert [float(row[-2].split()[0]) for row in found.rows[1:]] == pytest.approx([0.5, -0.25, -0.2])


def test_best_and_last_epoch(tmp_path: Path) -> None:
    metrics = {"best_epoch": 8, "best_val/perplexity": 150.0, "val/perplexity": 900.0, "train/perplexity": 3.0}
    metrics |= {"best_val/bits_per_byte": 2.6, "val/bits_per_byte": 3.5, "epoch": 100, "step": 1000}
    settings = {"data": {"start": 0, "num_train": 68, "num_steps": 32}}
    leave_job(tmp_path / "s", settings, metrics=metrics, parameters=1000)
    (row,) = small_data.findings(load_jobs(tmp_path / "s")).rows
    assert row == ["0", "1,000", "10", "8", "150.0", "900.0", "3.0", "2.600", "3.500"]

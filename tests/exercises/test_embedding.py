"""The report of exercise 5."""

import math
from pathlib import Path

import pytest

from tests.support.jobs import leave_job
from timemachine.exercises import embedding
from timemachine.run.jobs import load_jobs


def leave_inputs(sweep: Path, seed: int, perplexities: dict[tuple[str, float], float]) -> None:
    """Leave a run of each way to read the input, (input, width or factor), with its perplexity on the rest."""
    for (kind, size), rest in perplexities.items():
        factor, width = (size, 32) if kind == "one_hot" else (1.0, size)
        model = {"input": kind, "input_lr_factor": factor, "embedding_dim": width, "embedding_sigma": 1.0, "lr": 1.0}
        stream = {part: {"perplexity": value} for part, value in {"val": rest - 1, "test": rest}.items()}
        leave_job(sweep, {"seed": seed, "model": model}, probes={"stream": stream})


def test_embeddings_beside_fast_one_hot_inputs(tmp_path: Path) -> None:
    for seed in range(4):  # seeds differ by much more than ways to read the input
        book, more = math.exp(2 + seed / 10), {8: 0.9 + seed / 1000, 32: 0.8 - seed / 1000}
        ways = {("one_hot", 1.0): book} | {("embedding", size): book * share for size, share in more.items()}
        ways |= {("one_hot", 8.0): book * 0.901, ("one_hot", 32.0): book * 0.799}
        leave_inputs(tmp_path / "s", seed, ways)
    leave_inputs(tmp_path / "s", 4, {("one_hot", 1.0): math.nan, ("embedding", 8): 7.0})
    found = embedding.findings(load_jobs(tmp_path / "s"))
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows if row[1] == "embedding"]
    assert [row["width or factor"] for row in rows] == ["all, mean", "8", "32"]
    eight = rows[1]
    gain = math.log(0.9015)  # of the mean seed
    assert float(eight["rest of the text, less one-hot"].strip("*").split()[0]) == pytest.approx(gain, abs=6e-4)
    assert eight["rest of the text, less one-hot"].startswith("**")
    assert not eight["rest of the text, less one-hot as fast"].startswith("*")

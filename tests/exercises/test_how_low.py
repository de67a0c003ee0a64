"""The report of exercise how_low, from folders as its jobs leave them, and what leaves them."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from tests.support.jobs import leave_job
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import stream_score
from timemachine.exercises import how_low
from timemachine.exercises.jobs import load_jobs
from timemachine.language_model import RNNLMScratch

MARKS = {"kneser_ney": 4.0, "mixture": 3.5, "mixture_adaptive": 3.2}


def left_by(sweep: Path, settings: dict[str, Any], perplexities: dict[str, float], status: str = "completed") -> None:
    """A job's folder: each of 400 targets has the perplexity that is given for its part."""
    marks = {f"{part}_{name}": value for part in ("val", "test") for name, value in MARKS.items()}
    found = marks | perplexities
    arrays: dict[str, Any] = {
        name: np.full(400, math.log(value), np.float32) for name, value in found.items() if name != "train"
    }
    for part in ("val", "test"):
        arrays[f"{part}_place"], arrays[f"{part}_since"] = np.arange(400) % 5 - 1, np.arange(400) // 100 * 5000
    probes = {"reading": {name: {"perplexity": value} for name, value in found.items()}}
    folder = leave_job(sweep, settings, status=status, metrics={"val/perplexity": 9.0}, probes=probes)
    np.savez(folder / "reading.npz", **arrays)


def all_parts(perplexity: float) -> dict[str, float]:
    parts = {"train": perplexity - 1, "val": perplexity, "test": perplexity + 0.5}
    return parts | {"val_adaptive": perplexity - 0.1, "test_adaptive": perplexity + 0.4}


def settings(seed: int, lr: float, num_train: int | None = None, relu: bool = False) -> dict[str, Any]:
    return {"seed": seed, "model": {"lr": lr, "relu": relu}, "data": {"num_train": num_train}}


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "how_low"
    for lr, relu, perplexity in ((1.0, False, 8.0), (0.5, False, 5.0), (0.5, True, 2.0)):
        for seed in (0, 1):
            left_by(folder, settings(seed, lr, relu=relu), all_parts(perplexity * (1 + seed)))
    left_by(folder, settings(0, 1.0, num_train=10_000), all_parts(7.0))
    left_by(folder, settings(2, 0.5, relu=True), all_parts(1.5), status="diverged")
    return folder


def test_a_row_is_a_change_and_what_it_gained(sweep: Path) -> None:
    found = how_low.findings(load_jobs(sweep))
    assert [row[0] for row in found.rows] == ["to begin with", "`model.lr=0.5`", "`model.relu=true`"]
    assert [row[1] for row in found.rows] == ["2", "2", "2"]
    assert [row[4] for row in found.rows] == ["", "4.50", "4.50"]
    assert found.rows[2][3] == "3.00 ± 1.41"
    text = " ".join([found.answer, *found.longer])  # seeds read as one have the mean of their probabilities
    on_val, on_test, adapting = 2 / (1 / 2 + 1 / 4), 2 / (1 / 2.5 + 1 / 4.5), 2 / (1 / 1.9 + 1 / 3.9)
    for number in (f"{on_test:.2f} (one alone 3.50", f"{on_val:.2f} (one alone 3.00", f"read: {adapting:.2f}"):
        assert number in text
    assert f"below the mixture's 3.50 (by {math.log(3.5 / on_val):.3f} ± 0.000 nats)" in text
    # One model differs from the mixture by what its seeds do on average, not by what their mean probability does.
    single, as_one = math.log(2 * 4) / 2 - math.log(3.5), math.log(on_val / 3.5)
    fixed = found.notes[3].splitlines()[2]
    assert f"| novel, next 5 % | 3.00 ± 1.41 | {single:+.3f} ± 0.000 |" in fixed
    assert f"| {as_one:+.3f} ± 0.000 | 4.00 ± 0.00 | 3.50 ± 0.00 |" in fixed


def test_a_target_is_told_by_its_place_in_the_word_and_by_when_that_word_came_last() -> None:
    text = b"the time  the th"
    place_N, since_N = how_low._where(text, range(len(text)))
    assert place_N.tolist() == [0, 1, 2, -1, 0, 1, 2, 3, -1, -1, 0, 1, 2, -1, 0, 1]
    assert since_N.tolist() == [0] * 9 + [-1] + [10] * 4 + [0, 0]
    some = how_low._where(text, range(4, 12))
    assert np.array_equal(some, (place_N[4:12], since_N[4:12]))


def probed(sample: Corpus, folder: Path, **trainer: Any) -> tuple[dict[str, Any], Any, TimeMachine, RNNLMScratch]:
    short = replace(sample, characters=sample.characters[:5000])
    data = TimeMachine(num_steps=8, num_train=2000, num_val=300, corpus=short)
    torch.manual_seed(0)
    model = RNNLMScratch(len(data.vocab), hiddens=4, sigma=0.5)
    model.trainer = pl.Trainer(logger=False, enable_checkpointing=False, default_root_dir=folder, **trainer)
    return how_low.measure(model, data), np.load(folder / "reading.npz"), data, model


def test_the_probe_reads_each_target_once_with_each_reader(sample: Corpus, tmp_path: Path) -> None:
    found, left, data, model = probed(sample, tmp_path)
    readers = ("", "_adaptive", "_kneser_ney", "_mixture", "_mixture_adaptive")
    where = ("_place", "_since")
    assert set(left) == {part + name for part in ("val", "test") for name in (*readers, *where)}
    for part in ("val", "test"):
        targets = data.splits[part].targets
        expected = stream_score(model, data.chars_N, targets).perplexity
        assert found[part]["perplexity"] == pytest.approx(expected)
        for reader in readers:
            assert len(left[part + reader]) == len(targets)
            of_array = math.exp(left[part + reader].astype(float).mean())
            assert found[part + reader]["perplexity"] == pytest.approx(of_array, rel=1e-5)
    found, left, *_ = probed(sample, tmp_path, limit_test_batches=0)  # a step of the path looks at no test text
    assert set(left) == {"val"} and set(found) == {"val", "train"}

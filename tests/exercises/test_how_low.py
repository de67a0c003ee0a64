"""The report of exercise how_low and the probe that saves its arrays."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from scipy import stats

from tests.support.jobs import leave_job
from timemachine.config import Training
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import stream_score
from timemachine.exercises import how_low
from timemachine.how_low import RNNLMBeyond, teacher
from timemachine.run.jobs import load_jobs

LENGTH = 350  # three blocks of 100 characters and one of 50 in each part


def left_by(sweep: Path, seed: int, model: dict[str, Any], of_model: float, **data: Any) -> None:
    """Leave the folder of a job whose negative log-likelihoods are centred on log(perplexity)."""
    generator, models = np.random.default_rng(int(of_model * 100) + seed), {"model": of_model}
    if is_end := "hiddens" in model:
        models |= {"model_adapting": of_model - 0.1, "kneser_ney": 4.0, "mixture": 3.5, "mixture_adapting": 3.2}
        models |= {"teacher": 3.4 + seed / 100, "networks": 3.9}
    arrays: dict[str, Any] = {
        f"{part}/{name}": (math.log(perplexity) + generator.normal(0, 0.1, LENGTH)).astype(np.float32)
        for part in ("val", "test")[: 1 + is_end]
        for name, perplexity in models.items()
    }
    for part in ("val", "test"):
        arrays |= {f"{part}/since": np.arange(LENGTH) % 4 * 600}
    reading = {part: dict(models) for part in ("val", "test")}
    settings = {"seed": seed, "model": model, "data": {"corpus": "time_machine", "num_train": None} | data}
    settings["training"] = {"teacher": 10}
    folder = leave_job(sweep, settings, probes={"reading": reading | {"train": {"model": of_model - 1}}})
    np.savez(folder / "reading.npz", **arrays)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Return the jobs: the book's run, a change that helps, one that does not, another split and another novel."""
    folder = tmp_path / "how_low"
    for seed in (0, 1, 2):
        left_by(folder, seed, {"lr": 1.0}, 8.0 + seed / 100)
        left_by(folder, seed, {"lr": 1.0, "input_lr_factor": 30}, 5.0 + seed / 50)
        left_by(folder, seed, {"lr": 0.5, "input_lr_factor": 30, "hiddens": 1024}, 5.0 - (seed == 1))
    left_by(folder, 0, {"lr": 0.5, "hiddens": 512}, 6.0, num_train=10_000)
    left_by(folder, 0, {"lr": 0.5, "hiddens": 1024}, 4.5, corpus="alices_adventures_in_wonderland")
    return folder


def test_rows_of_steps(sweep: Path) -> None:
    found = how_low.findings(load_jobs(sweep))
    assert [row[0] for row in found.rows] == [
        "the book's run, on 90% of the novel", "the input's weights learn 30 times as fast", "1,024 hidden units",
    ]  # fmt: skip
    quantile = stats.t.ppf(0.975, 2)
    first, second, third = (row[3] for row in found.rows)
    assert first == "" and second == f"2.99 ± {quantile * np.std([0, 0.01, 0.02], ddof=1) / math.sqrt(3):.2f}"
    assert third.startswith("(0.35 ±")  # only one of three seeds improves, so the difference is not significant
    assert "perplexity of 4.66 on the novel" in found.answer
    assert "| 1,024 hidden units | model.lr=0.5, model.hiddens=1024 |" in found.notes[2]
    texts = {name.rsplit("/", 1)[0] for name in found.arrays}
    assert texts - {text for text in texts if text.startswith("time_machine/novel/test/")} == {
        "time_machine/novel/val", "time_machine/novel/test", "time_machine/book/val", "time_machine/book/test",
        "alices_adventures_in_wonderland/novel/test",
    }  # fmt: skip


def test_model_and_teacher_are_paired(sweep: Path) -> None:
    found = how_low.findings(load_jobs(sweep))
    left = [np.load(sweep / name / "reading.npz") for name in ("2", "5", "8")]
    model_SN, teacher_SN = (np.array([it[f"test/{name}"] for it in left], float) for name in ("model", "teacher"))
    difference_N = (model_SN - teacher_SN).mean(0)
    starts, lengths_K = [0, 100, 200, 300], np.array([100, 100, 100, 50])
    residual_K = np.add.reduceat(difference_N - difference_N.mean(), starts)
    half = stats.t.ppf(0.975, 3) * math.sqrt(4 / 3 * (residual_K**2).sum()) / LENGTH
    expected = f"{difference_N.mean():+.3f} ± {half:.3f}"
    (row,) = (line for line in found.notes[4].splitlines() if line.startswith("| The Time Machine, last 5%"))
    assert row.endswith(f"| {expected} |")
    kept = {name: found.arrays[f"time_machine/novel/test/{name}"] for name in ("model", "teacher", "characters")}
    assert kept["model"].shape == (3, 4) and kept["characters"].tolist() == lengths_K.tolist()
    of_kept_K = kept["model"].mean(0) - kept["teacher"].mean(0)
    assert of_kept_K / lengths_K == pytest.approx(np.add.reduceat(difference_N, starts) / lengths_K, abs=1e-5)


def test_seeds_as_one_model(sweep: Path) -> None:
    found = how_low.findings(load_jobs(sweep))
    p_SN = np.exp([-np.load(sweep / name / "reading.npz")["val/model"].astype(float) for name in ("2", "5", "8")])
    sums_1K = found.arrays["time_machine/novel/val/models"]
    assert sums_1K.sum() == pytest.approx(-np.log(p_SN.mean(0)).sum(), rel=1e-6)
    assert "time_machine/book/val/models" not in found.arrays  # only one seed


def test_targets_by_word_recency() -> None:
    text = "the time  the th"
    since_N = how_low._since(text, range(len(text)))
    assert since_N.tolist() == [0] * 9 + [-1] + [10] * 4 + [0, 0]
    assert how_low._since("«Τὸν", range(4)).tolist() == [-1, 0, 0, 0]
    assert np.array_equal(how_low._since(text, range(4, 12)), since_N[4:12])
    is_kind_CN = np.array([(least <= since_N) & (since_N <= most) for least, most in how_low.KINDS.values()])
    assert is_kind_CN.sum(0).tolist() == [1] * 9 + [0] + [1] * 6


def probed(sample: Corpus, folder: Path, **trainer: Any) -> tuple[dict[str, Any], Any, TimeMachine, RNNLMBeyond]:
    short = replace(sample, characters=sample.characters[:5000])
    data = TimeMachine(num_steps=8, num_train=2000, num_val=300, corpus=short)
    torch.manual_seed(0)
    training = Training(carry_state=True, teacher=1, teacher_networks=1)
    model = RNNLMBeyond(len(data.vocab), training, hiddens=4, sigma=0.5)
    model.trainer = pl.Trainer(logger=False, enable_checkpointing=False, default_root_dir=folder, **trainer)
    return how_low.measure(model, data), np.load(folder / "reading.npz"), data, model


def test_probe_reads_targets_once(sample: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(teacher.NETWORK, "hiddens", 16)
    found, left, data, model = probed(sample, tmp_path)
    models = {"model", "model_adapting", "kneser_ney", "mixture", "mixture_adapting", "networks", "teacher"}
    assert set(left) == {f"{part}/{name}" for part in ("val", "test") for name in (*models, "since")}
    for part in ("val", "test"):
        targets = data.splits[part].targets
        assert found[part]["model"] == pytest.approx(stream_score(model, data.tokens_N, targets).perplexity)
        networks = teacher.networks_of(data, 1)
        assert networks and found[part]["networks"] == stream_score(networks, data.tokens_N, targets).perplexity
        nlls = {name: left[f"{part}/{name}"].astype(float) for name in models}
        for name, nll_N in nlls.items():
            assert len(nll_N) == len(targets)
            assert found[part][name] == pytest.approx(math.exp(nll_N.mean()), rel=1e-5)
        p_N = 0.75 * np.exp(-nlls["mixture"]) + 0.25 * np.exp(-nlls["networks"])
        assert nlls["teacher"] == pytest.approx(-np.log(p_N), abs=1e-5)
    found, left, *_ = probed(sample, tmp_path, limit_test_batches=0)  # steps of the path skip the test text
    assert set(left) == {"val/model"} and {part: set(of) for part, of in found.items()} == {
        "train": {"model"}, "val": {"model"},
    }  # fmt: skip

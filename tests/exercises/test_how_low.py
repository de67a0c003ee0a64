"""The probe of exercise how_low and its report."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from tests.support.jobs import leave_job
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.baselines import MIXTURE, Baselines
from timemachine.evaluation.scores import stream_nll, stream_score
from timemachine.exercises import how_low
from timemachine.language_model import RNNLMScratch
from timemachine.run.jobs import load_jobs


def job(sweep: Path, seed: int, perplexity: float, model: dict[str, Any], **data: Any) -> None:
    """Leave the folder of a job whose model has this perplexity on val and 0.1 more on test."""
    baselines = {"kneser_ney": 4.0, "mixture": 3.5, "difference": math.log(perplexity / 3.5), "half_width": 0.01}
    reading = {part: baselines | {"model": perplexity + more} for part, more in (("val", 0), ("test", 0.1))}
    settings = {"seed": seed, "model": model, "data": {"corpus": "time_machine", "num_train": None} | data}
    leave_job(sweep, settings, probes={"reading": reading | {"train": {"model": perplexity - 1}}})


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Return the jobs: the book's run, a step that helps, one that does not, generated text, and another split."""
    folder = tmp_path / "how_low"
    step = {"lr": 0.5, "input_lr_factor": 30}
    for seed in (0, 1, 2):
        job(folder, seed, 8 + seed / 100, {"lr": 1.0})
        job(folder, seed, 5 + seed / 50, {"lr": 1.0, "input_lr_factor": 30})
        job(folder, seed, 5.0 - (seed == 1), step | {"dropout": 0.0})
        job(folder, seed, 3.4 + seed / 100, step | {"_target_": "mine.LM", "dropout": 0.0}, teacher=10)
    job(folder, 0, 6.0, step, num_train=10_000)
    return folder


def test_rows_of_steps(sweep: Path) -> None:
    findings = how_low.findings(load_jobs(sweep))
    assert [row[0] for row in findings.rows] == [
        "the book's run, on 90% of the novel", "the input's weights learn 30 times as fast", "model.lr=0.5",
        "n-grams generate 10 times as much text; ReLU",
    ]  # fmt: skip
    half_width = stats.t.ppf(0.975, 2) * np.std([0, 0.01, 0.02], ddof=1) / math.sqrt(3)
    assert findings.rows[0][1:] == [f"{mean:.2f} ± {half_width:.2f}" for mean in (7.01, 8.01, 8.11)] + [""]
    assert findings.rows[1][4] == f"2.99 ± {half_width:.2f}"
    assert findings.rows[2][4].startswith("(0.35 ±")  # only one of three seeds improves: not significant


def test_comparison_with_baselines(sweep: Path) -> None:
    findings = how_low.findings(load_jobs(sweep))
    _, last, book, _ = findings.notes[-1].splitlines()[2:]
    cells = [cell.strip() for cell in last.split("|")[1:-1]]
    assert cells[:3] == ["The Time Machine, last 5%", "4.00", "3.50"]
    difference = np.mean([math.log((3.4 + seed / 100) / 3.5) for seed in range(3)])
    assert cells[5].startswith("3.51 ±") and cells[6] == f"{difference:+.3f} ± 0.010"
    assert "validation | 4.00 | 3.50 | 6.00 | +0.539 ± 0.010 | – | – |" in book
    assert "reaches a perplexity of 4.77 on its last 5%, and 3.51 with 10 times as much text" in findings.answer


def test_report_of_unfinished_jobs(sweep: Path) -> None:
    jobs = [job for job in load_jobs(sweep) if "data.teacher" not in job.settings]
    assert how_low.findings(jobs).answer.startswith("No answer yet")
    assert not how_low.findings([]).rows


def test_probe_reads_targets_once(sample: Corpus) -> None:
    short = replace(sample, characters=sample.characters[:5000])
    data = TimeMachine(num_steps=8, num_train=2000, num_val=300, corpus=short)
    torch.manual_seed(0)
    model = RNNLMScratch(len(data.vocab), hiddens=4, sigma=0.5)
    scores = how_low.measure(model, data)
    train = data.splits["train"].targets
    assert scores["train"] == {"model": stream_score(model, data.tokens_N, train).perplexity}
    baselines = Baselines(data.vocab, short.characters[: train.stop])
    for part in ("val", "test"):
        targets = data.splits[part].targets
        nll_N, mixture_N = stream_nll(model, data.tokens_N, targets), baselines.nll(short.characters, targets)[MIXTURE]
        assert scores[part]["model"] == pytest.approx(nll_N.mean().exp().item())
        assert scores[part]["mixture"] == pytest.approx(mixture_N.mean().exp().item())
        difference_N = (nll_N - mixture_N).numpy()
        assert scores[part]["difference"] == pytest.approx(difference_N.mean())
        starts = np.arange(0, len(targets), 100)
        residual_K, count = np.add.reduceat(difference_N - difference_N.mean(), starts), len(starts)
        error = math.sqrt(residual_K.var(ddof=1) * count) / len(targets)
        assert scores[part]["half_width"] == pytest.approx(stats.t.ppf(0.975, count - 1) * error)

"""The probe of exercise how_low and its report."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pandas import DataFrame

from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.baselines import MIXTURE, Baselines
from timemachine.evaluation.scores import stream_nll, stream_score
from timemachine.exercises import how_low
from timemachine.exercises.comparison import student_t
from timemachine.language_model import RNNLMScratch


def test_rows_of_steps() -> None:
    """The book's run, faster inputs, generated text, and another split."""
    steps: dict[str, list[object]] = {
        "data.num_train": [None, None, None, 10_000],
        "model.hiddens": [32, 256, 256, 512],
    }
    steps |= {"model.optimizer": [None, "adamw", "adamw", "adamw"], "data.teacher": [None, None, 10, 100]}
    steps |= {"model.input_lr_factor": [1, 30, 30, 30]}
    rows = [
        {"seed": seed} | {name: values[step] for name, values in steps.items()} | {"perplexity": 8 - step + seed / 100}
        for step in range(4)
        for seed in range(3)
    ]
    jobs = DataFrame(rows)
    jobs["reading/train/model"] = jobs["perplexity"] - 1
    for part in ("val", "test"):
        numbers = {"model": jobs["perplexity"], "kneser_ney": 4.0, "mixture": 3.5, "half_width": 0.01}
        numbers |= {"difference": np.log(jobs["perplexity"] / 3.5)}
        jobs = jobs.assign(**{f"reading/{part}/{name}": value for name, value in numbers.items()})
    table = how_low.table(jobs)
    assert [*table.index] == [
        ("90%", "sgd", 32, 1, 0), ("90%", "adamw", 256, 30, 0), ("90%", "adamw", 256, 30, 10),
        (10_000, "adamw", 512, 30, 100),
    ]  # fmt: skip
    half_width = student_t(0.05, 2) * np.std([0, 0.01, 0.02], ddof=1) / math.sqrt(3)
    row = table.iloc[1]
    assert f"{row['training']} {row['last 5%']}" == f"6.01 ± {half_width:.2f} 7.01 ± {half_width:.2f}"
    difference = np.mean([math.log((7 + seed / 100) / 3.5) for seed in range(3)])
    assert row["minus the mixture"] == f"{difference:+.3f} ± 0.010"
    how_low.figure(jobs)
    how_low.figure(jobs.iloc[-1:])


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
        assert scores[part]["half_width"] == pytest.approx(student_t(0.05, count - 1) * error)

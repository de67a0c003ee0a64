"""The probe of exercise how_low and its report."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.baselines import MIXTURE, Baselines
from timemachine.evaluation.scores import stream_nll, stream_score
from timemachine.exercises import how_low
from timemachine.language_model import RNNLMScratch
from timemachine.study.comparison import student_t


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

"""The measurements of exercises 1 and 2, compared with slow loops over one target at a time."""

import copy
import math
import statistics
from dataclasses import replace
from typing import Any

import pytest
import torch
from pandas import DataFrame
from torch import Tensor

from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.exercises import history
from timemachine.exercises.history import DISTANCES
from timemachine.language_model import RNNLMScratch


@pytest.fixture
def data(sample: Corpus) -> TimeMachine:
    text = replace(sample, characters=sample.characters[:200])
    return TimeMachine(num_steps=4, num_train=60, num_val=126, corpus=text)


@pytest.fixture(params=[{"input": "embedding"}, {"cell": "lstm"}], ids=str)
def model(request: pytest.FixtureRequest, data: TimeMachine) -> RNNLMScratch:
    """Return a model whose weights are large enough for distant characters to matter."""
    torch.manual_seed(0)
    return RNNLMScratch(len(data.vocab), 5, sigma=0.8, **request.param)


def log_p(model: RNNLMScratch, read: list[int]) -> Tensor:
    """Return the log-probabilities of the next character after these, starting from a zero state: (V)."""
    with torch.no_grad():
        logits_V: Tensor = model(torch.tensor([read]))[0][0, -1]
    return logits_V.log_softmax(0)


def test_probe_against_slow_loops(model: RNNLMScratch, data: TimeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    offered: list[Tensor] = []

    def likeliest(counts_MV: Tensor, *_: Any, **__: Any) -> Tensor:
        offered.append(counts_MV)
        return counts_MV.argmax(1, keepdim=True)

    monkeypatch.setattr(torch, "multinomial", likeliest)
    measured, chars, double = history.measure(model, data), data.tokens_N.tolist(), copy.deepcopy(model).double()
    targets = range(190, 200)
    counts = torch.bincount(data.tokens_N.long())
    first, second = counts.argsort(descending=True)[:2].tolist()
    for place, k in enumerate(DISTANCES):
        nlls, changes = [], []
        for target in targets:
            nlls.append(-float(log_p(double, chars[target - k : target])[chars[target]]))
            other = chars[:target]
            other[target - k] = second if other[target - k] == first else first
            changes.append(float((log_p(double, chars[:target]).exp() - log_p(double, other).exp()).abs().sum()) / 2)
            left_out = offered[place][target - targets.start]
            assert left_out[chars[target - k]] == 0 and left_out.sum() == 200 - counts[chars[target - k]]
        assert measured["perplexity"][str(k)] == pytest.approx(math.exp(statistics.fmean(nlls)), rel=1e-12)
        assert measured["tv"][str(k)] == pytest.approx(statistics.fmean(changes), rel=1e-7, abs=1e-14)
    nlls = [-float(log_p(double, chars[:target])[chars[target]]) for target in targets]
    assert measured["perplexity"]["all"] == pytest.approx(math.exp(statistics.fmean(nlls)), rel=1e-12)


def test_reach_and_tokens_that_suffice() -> None:
    """The change falls by a constant factor per step, so the reach is exact where it is interpolated."""
    rows = []
    for seed, decay in ((0, 0.5), (1, 0.6)):
        for steps, num_train in ((4, 100.0), (8, math.nan)):
            tv = {name: decay**k for name, k in zip(history.CHANGES, DISTANCES, strict=True)}
            perplexities = {name: 5 * (1 + decay**k) for name, k in zip(history.PERPLEXITIES, DISTANCES, strict=True)}
            settings = {"seed": seed, "data.num_steps": steps, "data.num_train": num_train, "step": 1000}
            rows.append(settings | tv | perplexities | {history.WHOLE: 5.0})
    rows.append(settings | {"data.num_steps": 16})  # without measurements
    table = history.table(DataFrame(rows).assign(status="completed"))
    assert [*table.index] == [("100 tokens, 1,000 updates", 4), ("90% of the text, 1,000 updates", 8)]
    reaches = [math.log(0.01) / math.log(decay) for decay in (0.5, 0.6)]
    assert table["reach"].iloc[0].mean == pytest.approx(statistics.fmean(reaches))
    assert [*table["tokens that suffice"]] == [12, 12]  # 0.6^8 = 1.7%, 0.6^12 = 0.2%

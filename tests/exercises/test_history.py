"""What exercises 1 and 2 measure against slow loops over one target at a time, and their report."""

import copy
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.jobs import leave_job
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.exercises import history
from timemachine.exercises.history import DISTANCES
from timemachine.language_model import RNNLMScratch
from timemachine.run.jobs import load_jobs


@pytest.fixture
def text(tmp_path: Path, sample: Corpus) -> Corpus:
    path = tmp_path / "text.txt"
    path.write_text(sample.characters[:200])
    return find_corpus(str(path), [])


@pytest.fixture
def data(text: Corpus) -> TimeMachine:
    return TimeMachine(num_steps=4, num_train=60, num_val=126, corpus=text)


@pytest.fixture(params=[{}, {"activation": "relu"}, {"input": "embedding"}, {"cell": "lstm"}], ids=str)
def model(request: pytest.FixtureRequest, data: TimeMachine) -> RNNLMScratch:
    """Weights so large that what is far back still counts."""
    torch.manual_seed(0)
    return RNNLMScratch(len(data.vocab), 5, sigma=0.5 if "activation" in request.param else 0.8, **request.param)


def log_p(model: RNNLMScratch, read: list[int]) -> Tensor:
    """Log-probabilities of the character after these, read from a zero state: (V)."""
    with torch.no_grad():
        logits_V: Tensor = model(torch.tensor([read]))[0][0, -1]
    return logits_V.log_softmax(0)


def test_probe_against_slow_loops(model: RNNLMScratch, data: TimeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    offered: list[Tensor] = []

    def likeliest(counts_MV: Tensor, *_: Any, **__: Any) -> Tensor:
        offered.append(counts_MV)
        return counts_MV.argmax(1, keepdim=True)

    monkeypatch.setattr(torch, "multinomial", likeliest)
    monkeypatch.setattr(history, "BLOCK", 6)
    found, chars, double = history.measure(model, data), data.chars_N.tolist(), copy.deepcopy(model).double()
    targets = range(190, 200)
    assert found["characters"] == len(targets)
    counts = torch.bincount(data.chars_N.long())
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
        assert found["perplexity"][str(k)] == pytest.approx(math.exp(statistics.fmean(nlls)), rel=1e-12)
        assert found["tv"][str(k)] == pytest.approx(statistics.fmean(changes), rel=1e-7, abs=1e-14)
        blocks = [statistics.fmean(changes[:6]), statistics.fmean(changes[6:])]
        assert found["blocks"][str(k)] == pytest.approx(blocks, rel=1e-7, abs=1e-14)
    nlls = [-float(log_p(double, chars[:target])[chars[target]]) for target in targets]
    assert found["perplexity"]["all"] == pytest.approx(math.exp(statistics.fmean(nlls)), rel=1e-12)


def test_probe_ignores_the_split(model: RNNLMScratch, text: Corpus) -> None:
    before = copy.deepcopy(model.state_dict())
    splits: list[dict[str, Any]] = [
        {"num_steps": 1, "num_train": 3},
        {"num_steps": 17, "num_train": 3},
        {"num_steps": 4, "num_train": 20},
    ]
    measured = [history.measure(model, TimeMachine(num_val=20, corpus=text, **split)) for split in splits]
    assert measured[0] == measured[1] == measured[2]
    assert measured[0]["characters"] == 200 - 64
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# The report


def leave_run(sweep: Path, num_train: int, updates: int, window: int, seed: int, reach: float) -> None:
    """Leave a run in which a change is 1 % so many characters back, and 10 % one back, and fades by a factor a step."""
    changes = {str(k): 0.1 * 0.1 ** ((k - 1) / (reach - 1)) for k in DISTANCES}
    perplexity = {str(k): 9.0 if k < reach else 7.0 for k in DISTANCES} | {"all": 7.0 + seed / 100}
    blocks = {k: [change * 0.9, change * 1.1] for k, change in changes.items()}
    probes = {"history": {"characters": 200, "tv": changes, "perplexity": perplexity, "blocks": blocks}}
    data = {"num_steps": window, "num_train": num_train}
    leave_job(sweep, {"seed": seed, "data": data, "trainer": {"max_steps": updates}}, probes=probes)


def test_reach_of_each_window(tmp_path: Path) -> None:
    for window, reach in ((64, 14.0), (4, 6.0), (32, 12.0)):  # not in order, as a sweep that was resumed
        for seed, more in enumerate((-0.1, 0.0, 0.1)):
            leave_run(tmp_path / "s", 10_000, 1_200, window, seed, reach + more)
            leave_run(tmp_path / "s", 150_000, 1_200, window, seed, reach - 3 + 2 * more)
            leave_run(tmp_path / "s", 150_000, 2_400, window, seed, reach - 2.9 - more)
    found = history.findings(load_jobs(tmp_path / "s"))
    columns = ["10,000 characters, 1,200 updates", "150,000 characters, 1,200 updates"]
    assert found.columns == ["time steps", *columns, "150,000 characters, 2,400 updates"]
    assert found.rows == [
        ["4", "6.0 ± 0.2", "3.0 ± 0.5", "3.1 ± 0.2"],
        ["32", "12.0 ± 0.2", "9.0 ± 0.5", "9.1 ± 0.2"],
        ["64", "14.0 ± 0.2", "11.0 ± 0.5", "11.1 ± 0.2"],
    ]
    assert "12.0 ± 0.2" in found.answer and "+2.0 ± 0.0" in found.answer
    _, changes = found.notes
    assert f"| from {columns[0]} to {columns[1]} | -3.00 ± 0.25 | shorter |" in changes
    assert (
        f"| from {columns[1]} to 150,000 characters, 2,400 updates | +0.10 ± 0.75 | cannot be told apart |" in changes
    )
    assert "from 10,000 characters, 1,200 updates to 150,000 characters, 2,400" not in changes  # two things at once
    assert found.arrays["10000/1200/32"].shape == (12, 2)

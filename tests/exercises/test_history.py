"""What exercises 1 and 2 measure against slow loops over one target at a time, and their report."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.cells import LSTM
from tests.support.jobs import leave_job
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.exercises import history
from timemachine.exercises.jobs import load_jobs
from timemachine.exercises.stream import MARGIN
from timemachine.language_model import RNNLMScratch
from timemachine.rnn import CELLS


@pytest.fixture
def text(tmp_path: Path, sample: Corpus) -> Corpus:
    path = tmp_path / "text.txt"
    path.write_bytes(sample.characters[:400])
    return find_corpus(str(path), [])


@pytest.fixture
def data(text: Corpus) -> TimeMachine:
    return TimeMachine(num_steps=4, num_train=60, num_val=80, corpus=text)


@pytest.fixture(params=[{}, {"activation": "relu"}, {"input": "embedding"}, {"cell": "lstm"}], ids=str)
def model(request: pytest.FixtureRequest, data: TimeMachine, monkeypatch: pytest.MonkeyPatch) -> RNNLMScratch:
    """Weights so large that what is far back still counts."""
    monkeypatch.setitem(CELLS, "lstm", LSTM)
    torch.manual_seed(0)
    return RNNLMScratch(len(data.vocab), 5, sigma=0.5 if "activation" in request.param else 0.8, **request.param)


def log_p(model: RNNLMScratch, read: list[int]) -> Tensor:
    """Log-probabilities of the character after these, read from a zero state: (V)."""
    with torch.no_grad():
        logits_V: Tensor = model(torch.tensor([read]))[0][0, -1]
    return logits_V.log_softmax(0)


def test_context_and_influence_are_those_of_slow_loops(
    model: RNNLMScratch, data: TimeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def every_seventh(high: int, size: tuple[int, ...], **_: Any) -> Tensor:
        return (7 * torch.arange(math.prod(size)).view(size)) % high

    monkeypatch.setattr(torch, "randint", every_seventh)
    found, chars, double = history.measure(model, data), data.chars_N.tolist(), copy.deepcopy(model).double()
    start = data.splits["val"].starts.start + MARGIN
    targets = range(start, start + found["characters"])
    context, influence = found["context"], found["influence"]
    assert context["length"] == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96]  # the text before has no more
    for length, perplexity in zip(context["length"], context["perplexity"], strict=True):
        nlls = [-float(log_p(double, chars[t - length : t])[chars[t]]) for t in targets]
        assert perplexity == pytest.approx(math.exp(math.fsum(nlls) / len(nlls)), rel=1e-12)
    assert influence["steps_back"] == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
    for row, (steps_back, kl) in enumerate(zip(*influence.values(), strict=True)):
        total = 0.0
        for number, target in enumerate(targets):
            other = chars[:target]
            other[target - steps_back] = chars[7 * (row * len(targets) + number) % len(chars)]
            log_P_V, log_Q_V = log_p(double, chars[:target]), log_p(double, other)
            total += float((log_P_V.exp() * (log_P_V - log_Q_V)).sum())
        assert kl == pytest.approx(total / len(targets), rel=1e-7, abs=1e-15)


def test_gradient_is_that_of_finite_differences(model: RNNLMScratch, data: TimeMachine) -> None:
    found, chars, double = history.measure(model, data)["gradient"], data.chars_N.tolist(), model.double()
    start, eps = data.splits["val"].starts.start + MARGIN, 1e-5
    targets = range(start, data.splits["val"].starts.stop)

    @torch.no_grad()
    def loss(state_BS: Tensor, after: list[int], target: int) -> Tensor:
        logits_BV: Tensor = double(torch.tensor([after] * len(state_BS)), state_BS)[0][:, -1]
        return -logits_BV.log_softmax(1)[:, target]

    assert found["steps_back"] == list(range(65))
    for steps_back in (1, 8):
        norms = []
        for target in targets:
            with torch.no_grad():
                _, state_1S = double(torch.tensor([chars[: target - steps_back]]))
            bumps_SS = eps * torch.eye(state_1S.shape[1], dtype=torch.float64)
            after = chars[target - steps_back : target]
            above_S, below_S = (loss(state_1S + bump_SS, after, chars[target]) for bump_SS in (bumps_SS, -bumps_SS))
            norms.append(float((above_S - below_S).norm() / (2 * eps)))
        assert found["norm"][steps_back] == pytest.approx(math.fsum(norms) / len(norms), rel=1e-5)
    p_MV = torch.stack([log_p(double, chars[:t]).exp() for t in targets])
    p_MV[range(len(targets)), chars[targets.start : targets.stop]] -= 1  # the gradient of the loss in the logits
    expected = (p_MV @ double.W_hq.T).norm(dim=1).mean().item()
    assert found["norm"][0] == pytest.approx(expected, rel=1e-12)


def test_the_probe_is_the_same_for_all_windows_and_leaves_the_model_alone(model: RNNLMScratch, text: Corpus) -> None:
    before = copy.deepcopy(model.state_dict())
    texts = [TimeMachine(num_steps=num_steps, num_train=60, num_val=230, corpus=text) for num_steps in (1, 17, 64)]
    measured = [history.measure(model, data) for data in texts]
    assert measured[0] == measured[1] == measured[2]
    assert measured[0]["characters"] == 230 - 64
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_character_far_back_does_little_and_not_the_noise_of_rounding(data: TimeMachine) -> None:
    """A state that halves each step: the divergence falls by four a step, far below 1e-16."""
    torch.manual_seed(0)
    model = RNNLMScratch(len(data.vocab), 6, sigma=0.1)
    with torch.no_grad():
        model.get_parameter("rnn.W_hh").copy_(0.5 * torch.eye(6))
    kl = dict(zip(*history.measure(model, data)["influence"].values(), strict=True))
    assert kl[64] / kl[24] == pytest.approx(0.5**80, rel=0.9)


def test_nothing_is_measured_where_validation_is_no_longer_than_the_margin(text: Corpus) -> None:
    data = TimeMachine(num_steps=4, num_train=60, num_val=64, corpus=text)
    assert history.measure(RNNLMScratch(len(data.vocab)), data) == {}


# The report


def measured(needs: int) -> dict[str, Any]:
    """What the probe finds of a model that needs so many characters, in which an effect halves with each step back."""
    context = {
        "length": list(history.LENGTHS),
        "perplexity": [7.0 if length >= needs else 7.0 + needs / length for length in history.LENGTHS],
        "standard_error": [0.3] * len(history.LENGTHS),
    }
    influence = {"steps_back": list(history.REPLACED), "kl": [2 * 0.25**k for k in history.REPLACED]}
    gradient = {"steps_back": list(range(65)), "norm": [2 * 0.5**k for k in range(65)]}
    return {"characters": 2000, "context": context, "influence": influence, "gradient": gradient}


def test_the_report_has_a_row_for_each_number_of_time_steps_and_their_numbers_in_its_answer(tmp_path: Path) -> None:
    for num_steps, needs in ((64, 12), (4, 6), (32, 8)):  # not in order, as a sweep that was resumed
        for seed in (0, 1):
            settings = {"seed": seed, "data": {"num_steps": num_steps}}
            probes = {"stream": {"val": {"perplexity": 7.1 + seed}, "test": {"perplexity": 8.6 + seed}}}
            probes["history"] = measured(needs)
            leave_job(tmp_path / "history", settings, metrics={"val/perplexity": 7.3}, probes=probes)
    found = history.findings(load_jobs(tmp_path / "history"))
    cells = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    assert [cell["time steps"] for cell in cells] == ["4", "32", "64"]
    assert {cell["stream, validation"] for cell in cells} == {"7.60 ± 0.71"}
    assert [cell["characters needed"] for cell in cells] == ["6.0 ± 0.0", "8.0 ± 0.0", "12.0 ± 0.0"]
    assert {cell["KL, 8 back"] for cell in cells} == {"3.1e-05 ± 0"}
    assert {cell["gradient, 8 back"] for cell in cells} == {"0.0039 ± 0"}
    text = " ".join([found.answer, *found.longer])
    for number in ("7.00", "given 8 characters", "at 15.00", "by 0.5 nats", "3.1e-05", "0.50 a step"):
        assert number in text
    assert "6.0 with 4, 8.0 with 32, 12.0 with 64 time steps" in text and "16 times as long lengthens" in text

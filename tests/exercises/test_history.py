"""What exercises 1 and 2 measure against slow loops over one target at a time, and their report."""

import copy
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.jobs import change_summary, leave_job
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.exercises import history
from timemachine.exercises.report import write_report
from timemachine.language_model import RNNLMScratch
from timemachine.runs.sweep import load_jobs

START, STOP = 60 + 64, 60 + 80  # of the targets: validation begins at 60, and its first 64 characters are the margin


@pytest.fixture
def text(tmp_path: Path, sample: Corpus) -> Corpus:
    path = tmp_path / "text.txt"
    path.write_bytes(sample.characters[:400])
    return find_corpus(str(path), [])


@pytest.fixture
def data(text: Corpus) -> TimeMachine:
    return TimeMachine(num_steps=4, num_train=60, num_val=80, corpus=text)


@pytest.fixture(params=[("tanh", "one_hot"), ("relu", "one_hot"), ("tanh", "embedding")])
def model(request: pytest.FixtureRequest, data: TimeMachine) -> RNNLMScratch:
    """A state that fades so slowly that far characters still count."""
    torch.manual_seed(0)
    activation, inputs = request.param
    model = RNNLMScratch(len(data.vocab), 6, activation=activation, input=inputs, embedding_dim=3)
    with torch.no_grad():
        model.get_parameter("rnn.W_xh").uniform_(0 if activation == "relu" else -0.1, 0.1)
        model.get_parameter("rnn.W_hh").copy_(0.95 * torch.eye(6) + 0.02 * torch.randn(6, 6))
        model.W_hq.normal_(0, 0.5)
    return model


@pytest.fixture
def double(model: RNNLMScratch) -> RNNLMScratch:
    return copy.deepcopy(model).double()


def prediction(model: RNNLMScratch, chars: Sequence[int]) -> Tensor:
    """Log-probabilities of the character after these, read from a zero state (V)."""
    with torch.no_grad():
        logits_V: Tensor = model(torch.tensor([list(chars)]))[0][0, -1]
    return logits_V.log_softmax(0)


def test_perplexity_after_so_many_characters_is_that_of_a_slow_loop(
    model: RNNLMScratch, double: RNNLMScratch, data: TimeMachine
) -> None:
    chars = data.chars_N.tolist()
    found = history.measure(model, data)["context"]
    assert found["length"] == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96]  # the text before has no more
    for length, perplexity in zip(found["length"], found["perplexity"], strict=True):
        nlls = [-float(prediction(double, chars[t - length : t])[chars[t]]) for t in range(START, STOP)]
        assert perplexity == pytest.approx(math.exp(math.fsum(nlls) / len(nlls)), rel=1e-12)
    assert len(set(found["perplexity"])) == len(found["perplexity"])


def test_influence_is_the_divergence_after_a_character_was_replaced(
    model: RNNLMScratch, double: RNNLMScratch, data: TimeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def every_seventh(high: int, size: tuple[int, ...], **_: Any) -> Tensor:
        return (7 * torch.arange(math.prod(size)).view(size)) % high

    monkeypatch.setattr(torch, "randint", every_seventh)
    chars, targets = data.chars_N.tolist(), range(START, STOP)
    found = history.measure(model, data)["influence"]
    assert found["steps_back"] == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
    for row, (steps_back, kl) in enumerate(zip(*found.values(), strict=True)):
        total = 0.0
        for number, target in enumerate(targets):
            other = list(chars[:target])
            other[target - steps_back] = chars[7 * (row * len(targets) + number) % len(chars)]
            log_P_V, log_Q_V = prediction(double, chars[:target]), prediction(double, other)
            total += float((log_P_V.exp() * (log_P_V - log_Q_V)).sum())
        assert kl == pytest.approx(total / len(targets), rel=1e-7)
        assert kl > 0


def test_gradient_is_that_of_finite_differences(model: RNNLMScratch, double: RNNLMScratch, data: TimeMachine) -> None:
    chars, eps = data.chars_N.tolist(), 1e-5
    found = history.measure(model, data)["gradient"]
    assert found["steps_back"] == list(range(65))

    @torch.no_grad()
    def losses(states_BH: Tensor, after: list[int], target: int) -> Tensor:
        for char in after:
            _, states_BH = double(torch.full((len(states_BH), 1), char), states_BH)
        logits_BV: Tensor = double.output_layer(states_BH[None])[:, 0]
        return -logits_BV.log_softmax(1)[:, target]

    bumps_HH = eps * torch.eye(6, dtype=torch.float64)
    for steps_back in (0, 1, 5, 30):
        norms = []
        for target in range(START, STOP):
            with torch.no_grad():
                _, state_1H = double(torch.tensor([chars[: target - steps_back]]))
            after = chars[target - steps_back : target]
            above_H, below_H = (losses(state_1H + bump_HH, after, chars[target]) for bump_HH in (bumps_HH, -bumps_HH))
            norms.append(float((above_H - below_H).norm() / (2 * eps)))
        assert found["norm"][steps_back] == pytest.approx(math.fsum(norms) / len(norms), rel=1e-6)


def test_the_probe_is_the_same_for_all_windows_and_leaves_the_model_alone(model: RNNLMScratch, text: Corpus) -> None:
    before = copy.deepcopy(model.state_dict())
    texts = [TimeMachine(num_steps=num_steps, num_train=60, num_val=230, corpus=text) for num_steps in (1, 17, 64)]
    measured = [history.measure(model, data) for data in texts]
    assert measured[0] == measured[1] == measured[2]
    assert measured[0]["characters"] == 230 - 64
    assert all(value.dtype == before[name].dtype for name, value in model.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    json.dumps(measured, allow_nan=False)


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


def history_job(sweep: Path, num_steps: int, seed: int, needs: int, decay: float, **other: Any) -> Path:
    """A folder as train.py leaves it: the context the model needs, and how much a step back takes of an effect."""
    measured = {
        "characters": 2000,
        "context": {
            "length": list(history.LENGTHS),
            "perplexity": [7.0 if length >= needs else 7.0 + needs / length for length in history.LENGTHS],
            "standard_error": [0.3] * len(history.LENGTHS),
        },
        "influence": {"steps_back": list(history.REPLACED), "kl": [2 * decay ** (2 * k) for k in history.REPLACED]},
        "gradient": {"steps_back": list(range(65)), "norm": [2 * decay**k for k in range(65)]},
    }
    stream = {name: {"perplexity": value + seed} for name, value in (("val", 7.1), ("test", 8.6))}
    entries: dict[str, Any] = {"metrics": {"val/perplexity": 7.3}, "probes": {"stream": stream, "history": measured}}
    return leave_job(sweep, {"seed": seed, "data": {"num_steps": num_steps}}, **entries | other)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = tmp_path / "history"
    folder.mkdir()
    for num_steps, needs in ((64, 12), (4, 6), (32, 8)):  # not in order, as a sweep that was resumed
        for seed in (0, 1):
            history_job(folder, num_steps, seed, needs, 0.5)
    return folder


def test_a_row_for_each_number_of_time_steps(sweep: Path) -> None:
    found = history.findings(load_jobs(sweep))
    cells = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    assert [cell["time steps"] for cell in cells] == ["4", "32", "64"]
    assert {cell["runs"] for cell in cells} == {"2"}
    assert {cell["stream, validation"] for cell in cells} == {"7.60 ± 0.71"}
    assert {cell["stream, rest"] for cell in cells} == {"9.10 ± 0.71"}
    assert [cell["characters needed"] for cell in cells] == ["6.0 ± 0.0", "8.0 ± 0.0", "12.0 ± 0.0"]
    assert {cell["KL, 8 back"] for cell in cells} == {"3.1e-05 ± 0"}
    assert {cell["gradient, 8 back"] for cell in cells} == {"0.0039 ± 0"}
    assert found.captions.keys() == found.figures.keys()


def test_the_answer_has_the_numbers_of_the_jobs(sweep: Path) -> None:
    found = history.findings(load_jobs(sweep))
    assert "trained on windows of 32 characters" in found.answer
    assert found.answer.endswith("best perplexity, 7.00, once it has been given 8 characters.")
    answer = " ".join(found.longer)
    assert "After 1 character it is at 15.00" in answer
    assert "by 0.5 nats, 8 steps back by 3.1e-05" in answer
    assert "a factor of 0.50 a step: it vanishes" in answer
    assert "Characters needed: 6.0 with 4, 8.0 with 32, 12.0 with 64 time steps." in answer
    assert "A window 16 times as long lengthens the real horizon, from 6.0 to 12.0 characters" in answer
    assert "are those of 4 and 32 and 64, which cannot be told apart" in answer
    assert "harm" not in answer


def test_the_answer_follows_the_numbers_where_they_say_the_opposite(tmp_path: Path) -> None:
    sweep = tmp_path / "history"
    sweep.mkdir()
    for num_steps in (16, 64):
        history_job(sweep, num_steps, 0, num_steps, 1.0)
    worse = load_jobs(sweep)[0].probes
    worse["history"]["context"]["perplexity"][-1] = 9.0
    change_summary(sweep / "0", probes=worse)
    answer = " ".join(history.findings(load_jobs(sweep)).longer)
    assert "A window 4 times as long has a horizon that cannot be told apart" in answer  # one seed
    assert "it does not vanish" in answer
    assert "8 steps back by 2, 32 steps back by about 2e+00." in answer
    assert "harm" not in answer  # one seed


def test_more_context_harms_only_where_seeds_agree(tmp_path: Path) -> None:
    sweep = tmp_path / "history"
    for seed in (0, 1):
        history_job(sweep, 16, seed, 16, 1.0)
    for agree, ends in ((True, (9.0, 9.1)), (False, (9.0, 5.0))):
        for number, end in enumerate(ends):
            probes = load_jobs(sweep)[number].probes
            probes["history"]["context"]["perplexity"][-1] = end
            change_summary(sweep / str(number), probes=probes)
        answer = " ".join(history.findings(load_jobs(sweep)).longer)
        says = "with 16 time steps perplexity is 7.00 after 16 characters and 9.05 after 512"
        assert (says in answer) == agree


def test_half_a_sweep_has_a_report(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sweep / "0/summary.json").unlink()
    (sweep / "1/summary.json").write_text('{"status": "runn')
    history_job(sweep, 16, 0, 8, 0.5, status="diverged")
    history_job(sweep, 8, 0, 8, 0.5, probes={"history": {}})  # a text too short to measure
    history_job(sweep, 8, 1, 8, 0.5, probes={})
    write_report(sweep, "history")
    report = (sweep / "report.md").read_text()
    assert "| 4 | 2 |" in report
    assert "| 16 |" not in report
    assert "| 8 |" not in report
    for figure in ("context", "influence", "gradient"):
        assert f"({figure}.png)" in report
        assert (sweep / f"{figure}.png").stat().st_size > 1000
    assert "report.md" in capsys.readouterr().out


@pytest.mark.parametrize("word", ["nan", "inf", "-inf"])
def test_numbers_that_are_not_finite_have_a_report(sweep: Path, word: str) -> None:
    for job in load_jobs(sweep)[:3]:
        for part, name in (("context", "perplexity"), ("influence", "kl"), ("gradient", "norm")):
            measured = job.probes["history"][part]
            measured[name] = [word] * len(measured[name])
        change_summary(job.folder, probes=job.probes)
    write_report(sweep, "history")
    cells = {line[2:4].strip(): line for line in (sweep / "report.md").read_text().splitlines() if line[:1] == "|"}
    assert cells["64"].endswith("| – | – | – | – | – | – | – | – | – |")
    assert "| 6.0 |" in cells["4"]
    assert "nan" not in (sweep / "report.md").read_text()


@pytest.mark.parametrize("number_of_jobs", [0, 1])
def test_next_to_nothing_has_a_report(tmp_path: Path, number_of_jobs: int) -> None:
    sweep = tmp_path / "history"
    sweep.mkdir()
    for seed in range(number_of_jobs):
        history_job(sweep, 4, seed, 6, 0.0)
    write_report(sweep, "history")
    assert ("No run has ended yet" in (sweep / "report.md").read_text()) == (number_of_jobs == 0)

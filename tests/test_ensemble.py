import json
import math
import re
from pathlib import Path

import pytest
import torch

from tests.conftest import Program
from timemachine.config import SettingError
from timemachine.corpus import Corpus
from timemachine.dynamic import SEGMENT, adaptive_nll, evaluate_adapting
from timemachine.ensemble import Ensemble, from_runs
from timemachine.evaluation import stream_nll, window_score
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab


def model(seed: int) -> RNNLMScratch:
    torch.manual_seed(seed)
    return RNNLMScratch(28, hiddens=5, sigma=0.8)


TARGETS = range(600, 900)


@pytest.fixture
def chars_N(sample: Corpus) -> torch.Tensor:
    return Vocab.of(sample.characters).encode(sample.characters)


# Several models as one


def test_an_ensemble_predicts_the_mean_of_the_probabilities(chars_N: torch.Tensor) -> None:
    one, other = model(0), model(1)
    p_N = [stream_nll(member, chars_N, TARGETS).neg().exp() for member in (one, other)]
    expected_N = -((p_N[0] + p_N[1]) / 2).log()
    torch.testing.assert_close(stream_nll(Ensemble([one, other]), chars_N, TARGETS), expected_N, rtol=1e-5, atol=1e-5)


def test_an_ensemble_of_a_model_with_itself_is_that_model(chars_N: torch.Tensor) -> None:
    one = model(0)
    several = Ensemble([one, one, one])
    expected = window_score(one, chars_N, range(100), 8).perplexity
    assert window_score(several, chars_N, range(100), 8).perplexity == pytest.approx(expected, rel=1e-6)


def test_an_ensemble_is_never_worse_than_its_members_are_on_average(chars_N: torch.Tensor) -> None:
    members = [model(seed) for seed in range(3)]
    nll = torch.stack([stream_nll(member, chars_N, TARGETS) for member in members]).mean()
    assert stream_nll(Ensemble(members), chars_N, TARGETS).mean() < nll


@pytest.mark.slow
def test_runs_are_evaluated_as_one_and_only_of_the_same_windows(program: Program, tmp_path: Path) -> None:
    small = ("data=sample", "logger=csv", "trainer.max_epochs=1", "model.hiddens=4")
    for name, setting in (("a", "seed=0"), ("b", "seed=1"), ("c", "data.num_val=100")):
        assert program("train.py", *small, setting, f"hydra.run.dir={name}").returncode == 0
    done = program("evaluate.py", "run=[a,b/model.safetensors]", "adapt=0.01")
    assert done.returncode == 0, done.stderr
    assert "2 models as one: a, b/model.safetensors" in done.stdout
    assert "sample, test, learning at a rate of 0.01 from what it has read: stream" in done.stdout
    done = program("evaluate.py", "run=[a,c]")
    assert done.returncode == 1
    assert done.stderr.startswith("error: run=c: was trained on another text, or on other windows of it, than a; ")
    assert done.stderr.count("\n") == 1


def test_runs_on_another_text_are_no_ensemble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RNNLMScratch, "from_run", lambda run: (model(0), Vocab("ab")))
    for name in ("a", "b"):
        data = {"num_steps": 2, "num_train": 3, "num_val": 4}
        summary = {"settings": {"data": data}, "corpus": {"source": "x", "sha256": f"1{name}"}}
        (tmp_path / name).mkdir()
        (tmp_path / name / "summary.json").write_text(json.dumps(summary))
    found, _ = from_runs([str(tmp_path / "a"), str(tmp_path / "a")])
    assert isinstance(found, Ensemble)
    with pytest.raises(SettingError, match="another text"):
        from_runs([str(tmp_path / "a"), str(tmp_path / "b")])


# A model that goes on learning


def test_at_a_rate_of_nothing_it_is_the_fixed_model(chars_N: torch.Tensor) -> None:
    found_N = adaptive_nll(model(0), chars_N, TARGETS, 0.0)
    torch.testing.assert_close(found_N, stream_nll(model(0), chars_N, TARGETS), rtol=1e-5, atol=1e-5)


def test_a_character_is_predicted_before_it_is_learnt(chars_N: torch.Tensor) -> None:
    """What comes later in the text changes nothing of what was said before."""
    other_N = chars_N.clone()
    cut = TARGETS.start - 513 + SEGMENT * 24 + 1  # where a segment ends
    other_N[cut:] = 5
    ours, theirs = (adaptive_nll(model(0), text_N, TARGETS, 0.1) for text_N in (chars_N, other_N))
    assert torch.equal(ours[: cut - TARGETS.start], theirs[: cut - TARGETS.start])
    assert not torch.equal(ours[cut - TARGETS.start :], theirs[cut - TARGETS.start :])


def test_it_learns_and_leaves_the_model_as_it_was(chars_N: torch.Tensor) -> None:
    network = model(0)
    before = [weight.clone() for weight in network.parameters()]
    fixed = stream_nll(network, chars_N, range(600, 5000)).mean()
    assert adaptive_nll(network, chars_N, range(600, 5000), 0.3).mean() < fixed - 0.3
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_the_models_of_an_ensemble_learn_each_by_itself(chars_N: torch.Tensor) -> None:
    one, other = model(0), model(1)
    p_N = [adaptive_nll(member, chars_N, TARGETS, 0.1).neg().exp() for member in (one, other)]
    found_N = adaptive_nll(Ensemble([one, other]), chars_N, TARGETS, 0.1)
    torch.testing.assert_close(found_N.neg().exp(), (p_N[0] + p_N[1]) / 2)
    assert math.isfinite(found_N.sum())


@pytest.mark.parametrize("rate", [1e30, 1e3])
def test_a_rate_at_which_it_diverges_is_refused(sample: Corpus, rate: float) -> None:
    data = {"num_steps": 8, "num_train": 2000, "num_val": 300}
    summary = {"settings": {"data": data}, "corpus": {"sha256": sample.sha256}}
    with pytest.raises(
        SettingError, match=rf"adapt={re.escape(f'{rate:g}')}: the model diverges; type for example adapt="
    ):
        evaluate_adapting(model(0), Vocab.of(sample.characters), summary, sample, rate)

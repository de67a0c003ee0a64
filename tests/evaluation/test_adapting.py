"""A model that goes on learning from what it reads."""

import math
import re

import pytest
import torch

from timemachine.corpus import Corpus
from timemachine.errors import SettingError
from timemachine.evaluation import adapting
from timemachine.evaluation.adapting import SEGMENT, adaptive_nll, evaluate_adapting
from timemachine.evaluation.ensemble import Ensemble
from timemachine.evaluation.scores import stream_nll
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab

TARGETS = range(600, 900)


def model(seed: int) -> RNNLMScratch:
    torch.manual_seed(seed)
    return RNNLMScratch(28, hiddens=5, sigma=0.8)


@pytest.fixture
def chars_N(sample: Corpus) -> torch.Tensor:
    return Vocab.of(sample.characters).encode(sample.characters)


def test_at_a_rate_of_nothing_and_without_looking_up_it_is_the_fixed_model(
    chars_N: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapting, "SHARE", 0)
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


@pytest.mark.parametrize("reach", [SEGMENT, 8 * SEGMENT, 8192])
def test_it_looks_up_what_followed_similar_states(
    reach: int, chars_N: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the same written for a whole text at once, of a model that does not learn."""
    monkeypatch.setattr(adapting, "REACH", reach)
    inputs_N = chars_N[TARGETS.start - 513 : TARGETS.stop - 1].long()
    next_N = chars_N[TARGETS.start - 512 : TARGETS.stop].long()
    H_N1H, _ = model(0).rnn(inputs_N[:, None])
    p_NV = model(0).output_layer(H_N1H)[0].softmax(1)
    h_NH = H_N1H[:, 0] / H_N1H[:, 0].norm(dim=1, keepdim=True)
    weight_NN = (25 * h_NH @ h_NH.T).exp()
    expected = []
    for n in range(512, len(inputs_N)):
        known = slice(max(n // SEGMENT * SEGMENT - reach, 0), n // SEGMENT * SEGMENT)
        cached_V = torch.zeros(28).index_add_(0, next_N[known], weight_NN[n, known]) / weight_NN[n, known].sum()
        expected.append((0.94 * p_NV[n] + 0.06 * cached_V)[next_N[n]].log().neg())
    found_N = adaptive_nll(model(0), chars_N, TARGETS, 0.0)
    torch.testing.assert_close(found_N, torch.stack(expected).detach().double(), rtol=1e-4, atol=1e-5)


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

"""The teacher's text and the distributions it was sampled from."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.support.rounding import rounding
from timemachine.config import Tokens, Training
from timemachine.corpus import find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.how_low import teacher
from timemachine.how_low.ensemble import Ensemble
from timemachine.how_low.mixture import CONTEXTS, MAX_CONTEXT, Mixture, log_loss
from timemachine.how_low.symbols import LETTERS
from timemachine.how_low.teacher import NETWORKS_SHARE, generate_text, teacher_nll, train_loader, train_networks
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab

TEXT = find_corpus("sample", []).characters[:4000]
VOCAB = Vocab.of(TEXT)


def test_text_and_its_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "MIN_LENGTH", 250)
    tokens_N, p_NV = generate_text(TEXT, 2_501, VOCAB, seed=0)
    assert len(tokens_N) == 2_500  # ten streams
    assert p_NV.shape == (2_500, len(VOCAB))
    assert p_NV.sum(1).numpy() == pytest.approx(1, abs=rounding(3 * len(VOCAB)))
    assert p_NV[:, VOCAB.unk].max() == 0
    (same_N, same_NV), (other_N, _) = (generate_text(TEXT, 2_501, VOCAB, seed) for seed in (0, 1))
    assert torch.equal(tokens_N, same_N) and torch.equal(p_NV, same_NV) and not torch.equal(tokens_N, other_N)
    nll = -p_NV[torch.arange(2_500), tokens_N.long()].log().mean()
    entropy = -torch.special.xlogy(p_NV, p_NV).sum(1).mean()
    assert nll.item() == pytest.approx(entropy.item(), rel=0.05)
    assert entropy < 2.2  # the entropy of the letter frequencies is 2.8


def random_networks() -> Ensemble:
    """Return networks in float64: over a thousand characters their recurrence amplifies rounding errors."""
    torch.manual_seed(0)
    return Ensemble([RNNLMScratch(len(VOCAB), hiddens=8, sigma=0.9).double() for _ in range(2)])


def test_distributions_against_reading_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mixture and the networks read each stream again. `teacher_nll` is the loss of its text."""
    monkeypatch.setattr(teacher, "MIN_LENGTH", 400)
    networks = random_networks()
    tokens_N, p_NV = generate_text(TEXT, 3 * 400, VOCAB, 4, networks)
    mixture, place_S = Mixture(LETTERS), VOCAB[LETTERS.tokens]
    mixture.read(LETTERS.encode(TEXT), range(len(TEXT)), learn=True)
    starts = np.random.default_rng(4).integers(len(TEXT), size=3)
    for start, chars_L, p_LV in zip(starts, tokens_N.split(400), p_NV.split(400), strict=True):
        before = TEXT[max(0, start - MAX_CONTEXT) : start]
        text = before + VOCAB.decode(chars_L.tolist())
        counted, targets = LETTERS.encode(text), range(len(before), len(text))
        log_p_LS = mixture.read(counted, targets)
        read = VOCAB.encode(text.rjust(MAX_CONTEXT + 400)).long()
        with torch.no_grad():
            log_p_LV = networks(read[None])[0][0, MAX_CONTEXT - 1 : -1]
        p_LS = log_p_LV.exp()[:, place_S].numpy()
        expected_LS = (1 - NETWORKS_SHARE) * np.exp(log_p_LS) + NETWORKS_SHARE * p_LS / p_LS.sum(1, keepdims=True)
        # A logit is changed by 2 C experts, by about ten nats in total.
        assert p_LV[:, place_S].numpy() == pytest.approx(expected_LS, abs=rounding(2 * CONTEXTS * 10))
        mixture_L, places_L = torch.from_numpy(log_loss(log_p_LS, counted, targets)), torch.arange(400)
        networks_L = torch.log1p(-log_p_LV[:, VOCAB.unk].exp()) - log_p_LV[places_L, read[-400:]]  # without <unk>
        expected_L = -p_LV[places_L, chars_L.long()].log()
        torch.testing.assert_close(teacher_nll(mixture_L, networks_L).float(), expected_L, rtol=1e-4, atol=1e-4)


def test_networks_learn_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(teacher.NETWORK, "hiddens", 32)
    tokens_N, before = VOCAB.encode(TEXT), torch.random.get_rng_state()
    one, same, other = (train_networks(tokens_N, VOCAB, seed, 2) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    X_1T, Y_1T = tokens_N[None, :-1].long(), tokens_N[None, 1:].long()
    nll_1T, same_1T, other_1T = (ensemble.nll((X_1T, Y_1T)).detach() for ensemble in (one, same, other))
    assert torch.equal(nll_1T, same_1T) and not torch.equal(nll_1T, other_1T)
    assert not torch.equal(*(model.nll((X_1T, Y_1T)) for model in one.models))
    unseen = VOCAB.encode(find_corpus("sample", []).characters[4000:8000])[None].long()
    assert nll_1T.mean() < one.nll((unseen[:, :-1], unseen[:, 1:])).mean() - 0.05


def test_a_diverged_network() -> None:
    networks = random_networks()
    torch.nn.init.constant_(networks.models[1].W_hq, torch.nan)
    with pytest.raises(SettingError, match=r"^training\.teacher_networks=2: [^\n]*$"):
        generate_text(TEXT, 10, VOCAB, 0, networks)


def test_all_characters_are_written() -> None:
    text = 30 * "«Πᾶς», said Émile:\n 12 — or 3?\n"
    vocab = Vocab.of(text, Tokens.characters, min_count=31)
    tokens_N, p_NV = generate_text(text, 500, vocab, 0)
    assert p_NV.min() > 0 and p_NV.sum(1).numpy() == pytest.approx(1, abs=rounding(3 * len(vocab)))
    written_V, read_V = (index_N.bincount(minlength=len(vocab)) for index_N in (tokens_N, vocab.encode(text)))
    assert (written_V / len(tokens_N)).numpy() == pytest.approx((read_V / len(text)).numpy(), abs=0.1)
    assert read_V[vocab.unk] > 0


def test_a_vocabulary_too_large() -> None:
    corpus = replace(find_corpus("sample", []), characters="".join(map(chr, range(300))), tokens=Tokens.characters)
    data = TimeMachine(2, 8, 100, 50, tokens=Tokens.characters, corpus=corpus)
    with pytest.raises(SettingError, match=r"^training\.teacher=10: [^\n]*$"):
        train_loader(data, Training(carry_state=True, teacher=10, teacher_networks=3))

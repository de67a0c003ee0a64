"""The teacher's text and the distributions it was sampled from."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.rounding import rounding
from timemachine.config import Tokens
from timemachine.corpus import find_corpus
from timemachine.errors import SettingError
from timemachine.regularized import TaughtTimeMachine, teacher
from timemachine.regularized.mixture import CONTEXTS, MAX_CONTEXT, Mixture
from timemachine.regularized.symbols import LETTERS
from timemachine.regularized.teacher import generate_text
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


def test_distributions_against_reading_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mixture reads each stream again."""
    monkeypatch.setattr(teacher, "MIN_LENGTH", 400)
    tokens_N, p_NV = generate_text(TEXT, 3 * 400, VOCAB, 4)
    mixture, index_S = Mixture(LETTERS), VOCAB[LETTERS.tokens]
    mixture.learn(LETTERS.encode(TEXT))
    starts = np.random.default_rng(4).integers(len(TEXT), size=3)
    for start, chars_L, p_LV in zip(starts, tokens_N.split(400), p_NV.split(400), strict=True):
        before = TEXT[max(0, start - MAX_CONTEXT) : start]
        text = LETTERS.encode(before + VOCAB.decode(chars_L.tolist()))
        expected_LS = np.exp(mixture.read(text, range(len(before), len(text))))
        # A logit is changed by 2 C experts, by about ten nats in total.
        assert p_LV[:, index_S].numpy() == pytest.approx(expected_LS, abs=rounding(2 * CONTEXTS * 10))


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
    sizes: dict[str, Any] = {"batch_size": 2, "num_steps": 8, "num_train": 100, "num_val": 50}
    with pytest.raises(SettingError, match=r"^data\.teacher=10: [^\n]*$"):
        TaughtTimeMachine(teacher=10, tokens=Tokens.characters, corpus=corpus, **sizes)
    assert TaughtTimeMachine(teacher=0, tokens=Tokens.characters, corpus=corpus, **sizes).teacher == 0


@pytest.mark.parametrize("value", [-1, 101, "10", True])
def test_an_invalid_length(value: Any) -> None:
    with pytest.raises(SettingError, match=r"^data\.teacher=[^\n]*$"):
        TaughtTimeMachine(teacher=value, corpus="sample")

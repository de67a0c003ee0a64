import numpy as np
import pytest
import torch

from timemachine.beyond.teacher import FOLDS, ORDER, expected
from timemachine.corpus import find_corpus
from timemachine.evaluation.ngrams import SYMBOLS, kneser_ney, kneser_ney_distribution
from timemachine.vocab import Vocab

TEXT = find_corpus("sample", []).characters


def test_a_distribution_sums_to_one_and_has_the_probability_of_each_target() -> None:
    targets = range(20_000, 20_300)
    p_NV = kneser_ney_distribution(TEXT[:20_000], TEXT, targets, 5)
    assert p_NV.sum(1) == pytest.approx(1)
    of_targets_N = p_NV[np.arange(300), [SYMBOLS.index(TEXT[target]) for target in targets]]
    assert -np.log(of_targets_N) == pytest.approx(kneser_ney(TEXT[:20_000], TEXT, targets, 5))


def test_what_is_expected_of_a_place_does_not_depend_on_what_stands_there() -> None:
    vocab = Vocab.of(TEXT)
    before = expected(TEXT, vocab)
    first, last = (len(TEXT) * fold // FOLDS for fold in (4, 5))
    other = bytearray(TEXT)
    other[last - 1 : last] = b"q"  # of the fold's last place no context in the fold has anything
    after = expected(bytes(other), vocab)
    torch.testing.assert_close(after[first:last], before[first:last], rtol=0, atol=0)
    assert not torch.equal(after[last + ORDER :], before[last + ORDER :])


def test_it_is_a_distribution_over_the_vocabulary_and_knows_a_text_that_it_has_not_seen() -> None:
    vocab = Vocab.of(TEXT)
    p_NV = expected(TEXT, vocab)
    assert p_NV.sum(1).numpy() == pytest.approx(1, abs=1e-6)
    assert p_NV[:, vocab.unk].max() == 0
    chars_N = vocab.encode(TEXT).long()
    perplexity = p_NV[torch.arange(len(TEXT)), chars_N].log().mean().neg().exp()
    of_half = np.exp(kneser_ney(TEXT[: len(TEXT) // 2], TEXT, range(len(TEXT) // 2, len(TEXT)), ORDER).mean())
    assert 3 < perplexity < of_half  # nineteen twentieths know more than a half


@pytest.mark.parametrize("text", [b"a", b"ab ab", b"a" * 50])
def test_short_texts_are_expected_somehow(text: bytes) -> None:
    p_NV = expected(text, Vocab.of(text))
    assert p_NV.shape == (len(text), len(Vocab.of(text)))
    assert p_NV.sum(1).numpy() == pytest.approx(1, abs=1e-6)

import pytest
import torch

from timemachine.beyond.teacher import written
from timemachine.corpus import find_corpus
from timemachine.vocab import Vocab

TEXT = find_corpus("sample", []).characters[:4000]
VOCAB = Vocab.of(TEXT)


def test_it_is_as_long_as_asked_and_drawn_from_distributions_over_the_vocabulary() -> None:
    chars_N, p_NV = written(TEXT, 20_000, VOCAB, seed=0)
    assert len(chars_N) == 20_000 and chars_N.dtype == torch.uint8
    assert p_NV.shape == (20_000, len(VOCAB))
    assert len(written(TEXT, 1999, VOCAB, seed=0)[0]) == 1999
    assert len(written(TEXT, 3001, VOCAB, seed=0)[0]) == 3000  # three streams
    assert p_NV.sum(1).numpy() == pytest.approx(1, abs=1e-5)
    assert p_NV[:, VOCAB.unk].max() == 0
    nll = -p_NV[torch.arange(20_000), chars_N.long()].log().mean()
    entropy = -torch.special.xlogy(p_NV, p_NV).sum(1).mean()
    assert nll.item() == pytest.approx(entropy.item(), rel=0.03)
    assert entropy < 2.2  # of the letters' frequencies: 2.8


def test_a_seed_writes_one_text_and_another_seed_another() -> None:
    (one_N, p_NV), (same_N, same_NV), (other_N, _) = (written(TEXT, 800, VOCAB, seed) for seed in (1, 1, 2))
    assert torch.equal(one_N, same_N) and torch.equal(p_NV, same_NV)
    assert not torch.equal(one_N, other_N)


@pytest.mark.parametrize("text", [b"a", b"ab ab", b"a" * 50])
def test_a_short_text_is_enough_to_write_from(text: bytes) -> None:
    vocab = Vocab.of(text)
    chars_N, p_NV = written(text, 3, vocab, seed=0)
    assert len(chars_N) == 3
    assert p_NV.shape == (3, len(vocab))
    assert p_NV.sum(1).numpy() == pytest.approx(1, abs=1e-5)

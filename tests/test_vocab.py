import unicodedata
from collections import Counter

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.texts import read
from timemachine import bpe
from timemachine.config import Tokens
from timemachine.errors import SettingError
from timemachine.vocab import MAX_VOCABULARY, UNKNOWN, Vocab

UNICODE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")).map(
    lambda text: unicodedata.normalize("NFC", text)
)


def book_vocab(tokens: str, min_freq: int = 0) -> list[str]:
    """Return the book's idx_to_token (section 9.2.2) without reserved tokens."""
    token_freqs = sorted(Counter(tokens).items(), key=lambda x: x[1], reverse=True)
    return sorted({"<unk>", *[token for token, freq in token_freqs if freq >= min_freq]})


@given(UNICODE, UNICODE, st.integers(1, 3))
@example("\0\U0010ffff\0", "\ufeff", 1)  # the first and the last character of Unicode
def test_encode_and_decode(text: str, other: str, min_count: int) -> None:
    text += "eee"  # keeps the vocabulary from being empty, which is an error
    vocab = Vocab.of(text, Tokens.characters, min_count)
    assert vocab.idx_to_token == book_vocab(text, min_count)
    assert vocab.bytes_V.tolist() == [1 if it == UNKNOWN else len(it.encode()) for it in vocab.idx_to_token]
    for any_text in (text, other, text + other):
        indices_N = vocab.encode(any_text)
        assert indices_N.tolist() == vocab[list(any_text)]
        assert vocab.decode(indices_N.tolist()) == "".join(c if c in vocab.idx_to_token else UNKNOWN for c in any_text)
        assert list(vocab.unknown(any_text)) == [c for c in Counter(any_text) if c not in vocab.idx_to_token]


def test_byte_pairs() -> None:
    text = read("german") + "\u20ac"
    vocab = Vocab.of(text, Tokens.bpe, vocab_size=300)
    assert (len(vocab), vocab.unk, vocab.idx_to_token[-1]) == (301, 300, UNKNOWN)
    assert vocab.idx_to_token[:300] == bpe.learn(text, 300)
    index_N = vocab.encode(text)
    assert len(index_N) < len(text.encode()) == vocab.bytes_V[index_N.long()].sum() and vocab.unk not in index_N
    assert vocab.decode(index_N.tolist()) == text and not vocab.unknown(text)
    assert vocab.decode(index_N[-2:-1].tolist()) == "\ufffd"  # a byte of the euro sign
    again = Vocab(vocab.idx_to_token, Tokens.bpe)
    assert again.idx_to_token == vocab.idx_to_token and torch.equal(again.encode(text), index_N)
    assert vocab.to_tokens(vocab[["e", "en"]]) == ["e", "en"]


@pytest.mark.parametrize("size", [256, 257, 32_769, MAX_VOCABULARY])
def test_large_vocabularies(size: int) -> None:
    """The sizes are at the limits of the integer types of indices."""
    text = "".join(map(chr, range(0x10000, 0x10000 + size - 1)))  # and <unk>
    vocab = Vocab.of(text, Tokens.characters)
    assert len(vocab) == size and vocab.encode(text).tolist() == [*range(1, size)]


def test_min_count_and_the_largest_vocabulary() -> None:
    often, rare = (map(chr, range(first, first + MAX_VOCABULARY // 2)) for first in (0x10000, 0x20000))
    text = 5 * "".join(often) + 2 * "".join(rare)
    assert len(Vocab.of(text, Tokens.characters, 3)) == MAX_VOCABULARY // 2 + 1
    assert len(Vocab.of(text[:-1], Tokens.characters, 2)) == MAX_VOCABULARY
    for count, characters in ((1, text), (4, "abcabab")):  # too many symbols, and none
        with pytest.raises(SettingError, match=rf"^data\.min_count={count}: [^\n]*$"):
            Vocab.of(characters, Tokens.characters, count)

import re
import string
import unicodedata
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.texts import LANGUAGES, read
from timemachine import vocab as module
from timemachine.config import Tokens
from timemachine.corpus import Corpus
from timemachine.errors import SettingError
from timemachine.vocab import LARGEST, UNKNOWN, Vocab

LETTERS = st.text(string.ascii_lowercase + " ", min_size=1)
UNICODE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")).map(
    lambda text: unicodedata.normalize("NFC", text)
)


def book_vocab(tokens: str, min_freq: int = 0) -> list[str]:
    """The book's idx_to_token (section 9.2.2), with no reserved tokens."""
    token_freqs = sorted(Counter(tokens).items(), key=lambda x: x[1], reverse=True)
    return sorted({"<unk>", *[token for token, freq in token_freqs if freq >= min_freq]})


def test_the_sample_has_the_books_28_symbols(sample: Corpus) -> None:
    vocab = Vocab.of(sample.characters)
    assert vocab.idx_to_token == [" ", "<unk>", *string.ascii_lowercase]
    assert (vocab[" "], vocab[UNKNOWN], vocab.unk, vocab["z"]) == (0, 1, 1, 27)


@given(LETTERS, LETTERS)
def test_the_order_is_the_books_and_encode_is_indexing_in_one_byte_a_character(text: str, other: str) -> None:
    vocab = Vocab.of(text)
    assert vocab.idx_to_token == book_vocab(text)
    indices_N = vocab.encode(other)
    assert indices_N.dtype == torch.uint8
    assert indices_N.tolist() == vocab[list(other)]


@pytest.mark.parametrize("unknown", ["é", "A", "ab"])
def test_what_the_text_lacks_is_unknown(unknown: str) -> None:
    vocab = Vocab("cab")
    assert vocab[unknown] == vocab.unk == 0  # "<" comes before the letters, and there is no space
    assert vocab[["a", unknown, "c"]] == [1, 0, 3]


def test_tokens_come_back_from_indices() -> None:
    vocab = Vocab("time machine")
    assert vocab.to_tokens(vocab["m"]) == vocab.to_tokens(np.int64(vocab["m"])) == "m"
    assert vocab.to_tokens(torch.tensor(vocab["m"])) == "m"
    assert vocab.to_tokens(vocab[list("it has")]) == ["i", "t", " ", "h", "a", UNKNOWN]


# --- Any characters ---


@given(UNICODE, UNICODE, st.integers(1, 3))
@example("\0\U0010ffff\0", "\ufeff", 1)  # the first character of all and the last
def test_encode_is_indexing_and_decode_its_inverse(text: str, other: str, min_count: int) -> None:
    text += "eee"  # a text of which nothing is kept is refused
    vocab = Vocab.of(text, Tokens.characters, min_count)
    assert vocab.idx_to_token == book_vocab(text, min_count)
    for any_text in (text, other, text + other):
        indices_N = vocab.encode(any_text)
        assert indices_N.tolist() == vocab[list(any_text)]
        assert vocab.decode(indices_N.tolist()) == "".join(c if c in vocab.idx_to_token else UNKNOWN for c in any_text)
        assert list(vocab.unknown(any_text)) == [c for c in Counter(any_text) if c not in vocab.idx_to_token]


@given(st.text(st.characters()), st.sampled_from(Tokens))
@example("e\u0301 \u212b\r\n\r\ud800", Tokens.characters)
def test_a_text_that_is_normalised_stays_as_it_is(text: str, kind: Tokens) -> None:
    vocab = Vocab((), kind)
    tokens = vocab.tokens_of(text)
    assert vocab.tokens_of(tokens) == tokens
    if kind is Tokens.characters:
        lines = re.sub("\r\n?", "\n", re.sub("[\ud800-\udfff]", "?", text))
        assert tokens == unicodedata.normalize("NFC", lines)


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_comes_back_whole(language: str) -> None:
    text = read(language)
    vocab = Vocab.of(text, Tokens.characters)
    assert vocab.decode(vocab.encode(vocab.tokens_of(text)).tolist()) == text
    assert len(vocab) == len({*text}) + 1 and vocab.encode(text).element_size() == (1 if len(vocab) <= 256 else 2)


def test_a_long_text_is_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    text = read("english")
    whole = Vocab.of(text, Tokens.characters, 3)
    monkeypatch.setattr(module, "AT_ONCE", 1000)
    in_parts = Vocab.of(text, Tokens.characters, 3)
    assert in_parts.idx_to_token == whole.idx_to_token == book_vocab(text, 3)
    assert in_parts.encode(text).tolist() == whole[list(text)]


@pytest.mark.parametrize(
    ("size", "dtype"),
    [(256, torch.uint8), (257, torch.int16), (32_768, torch.int16), (32_769, torch.int32), (LARGEST, torch.int32)],
)
def test_a_character_takes_as_few_bytes_as_the_vocabulary_needs(size: int, dtype: torch.dtype) -> None:
    text = "".join(map(chr, range(0x10000, 0x10000 + size - 1)))  # and <unk>
    vocab = Vocab.of(text, Tokens.characters)
    indices_N = vocab.encode(text)
    assert (len(vocab), indices_N.dtype) == (size, dtype)
    assert indices_N.tolist() == [*range(1, size)]


def test_more_symbols_than_a_model_can_have_are_refused_with_a_count_that_fits() -> None:
    often, seldom = (map(chr, range(first, first + LARGEST // 2)) for first in (0x10000, 0x20000))
    text = 5 * "".join(often) + 2 * "".join(seldom)
    with pytest.raises(SettingError, match=r"^data\.min_count=1: keeps 65,536 kinds of .*=3$"):
        Vocab.of(text, Tokens.characters)
    assert len(Vocab.of(text, Tokens.characters, 3)) == LARGEST // 2 + 1
    assert len(Vocab.of(text[:-1], Tokens.characters, 2)) == LARGEST


def test_a_min_count_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(SettingError, match=r"^data\.min_count=4: keeps 0 kinds .* data\.min_count=1$"):
        Vocab.of("abcabab", Tokens.characters, 4)

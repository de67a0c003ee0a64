import string
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from timemachine.corpus import Corpus
from timemachine.vocab import UNKNOWN, Vocab

NORMALISED = st.text(string.ascii_lowercase + " ", min_size=1).map(str.encode)


def book_vocab(tokens: str) -> list[str]:
    """The book's idx_to_token (section 9.2.2), with min_freq 0 and no reserved tokens."""
    token_freqs = sorted(Counter(tokens).items(), key=lambda x: x[1], reverse=True)
    return sorted({"<unk>", *[token for token, freq in token_freqs if freq >= 0]})


def test_the_sample_has_the_books_28_symbols(sample: Corpus) -> None:
    vocab = Vocab.of(sample.characters)
    assert vocab.idx_to_token == [" ", "<unk>", *string.ascii_lowercase]
    assert (vocab[" "], vocab[UNKNOWN], vocab.unk, vocab["z"]) == (0, 1, 1, 27)


@given(NORMALISED, NORMALISED)
def test_the_order_is_the_books_and_encode_is_indexing_in_one_byte_a_character(text: bytes, other: bytes) -> None:
    vocab = Vocab.of(text)
    assert vocab.idx_to_token == book_vocab(text.decode())
    indices_N = vocab.encode(other)
    assert indices_N.dtype == torch.uint8
    assert indices_N.tolist() == vocab[list(other.decode())]


@pytest.mark.parametrize("unknown", ["é", "A", "ab"])
def test_what_the_text_lacks_is_unknown(unknown: str) -> None:
    vocab = Vocab("cab")
    assert vocab[unknown] == vocab.unk == 0  # "<" comes before the letters, and there is no space
    assert vocab[["a", unknown, "c"]] == [1, 0, 3]


def test_tokens_come_back_from_indices() -> None:
    vocab = Vocab("time machine")
    assert vocab.to_tokens(vocab["m"]) == "m"
    assert vocab.to_tokens(vocab[list("it has")]) == ["i", "t", " ", "h", "a", UNKNOWN]

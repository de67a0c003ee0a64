"""Text as bytes for n-grams and their mixture."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from timemachine.config import Tokens
from timemachine.errors import SettingError
from timemachine.regularized.symbols import Symbols, check_size
from timemachine.vocab import UNKNOWN, Vocab


@given(st.text(max_size=40), st.text(max_size=40))
def test_characters(known: str, text: str) -> None:
    vocab = Vocab.of(known, Tokens.characters)
    symbols = Symbols.of(vocab)
    assert list(symbols.encode(known + text)) == vocab.encode(known + text).tolist()
    assert symbols.tokens == vocab.idx_to_token and symbols.other == bytes([vocab.unk])


def test_more_than_256_symbols() -> None:
    check_size(Vocab(map(chr, range(255))), "baselines=true", "baselines=false")
    with pytest.raises(SettingError, match=r"^baselines=true: [^\n]*$"):
        check_size(Vocab(map(chr, range(256))), "baselines=true", "baselines=false")


def test_words_ignore_case() -> None:
    symbols = Symbols(["\n", " ", "1", UNKNOWN, "B", "a", "b", "É", "Π", "π", "ъ"])
    words = symbols.encode("aB,\n1É\u0301ΠπЪъ").translate(symbols.in_words)
    assert [symbols.tokens[number] for number in words] == [
        "a", "b", UNKNOWN, UNKNOWN, UNKNOWN, "É", UNKNOWN, "π", "π", UNKNOWN, "ъ",
    ]  # fmt: skip

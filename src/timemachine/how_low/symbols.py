"""Up to 256 symbols for n-grams and their mixture, which read a text as one byte per character."""

from collections.abc import Iterable
from string import ascii_lowercase

from timemachine.config import Tokens
from timemachine.errors import SettingError
from timemachine.vocab import UNKNOWN, Vocab

MAX_SYMBOLS = 256


class Symbols:
    """At most 256 tokens, among them `<unk>` or the space, numbered with one byte each.

    `other`: the number of `<unk>`, or else of the space; it stands for unknown characters and for those before a text.
    `in_words`, `as_ascii`: tables for `bytes.translate`. `in_words` maps a letter to its lower case, and every other
    symbol to `other`. `as_ascii` maps an ASCII character to its code, and every other symbol to an unused code, so that
    a compressor of bytes reads English unchanged, and any script in one byte per character.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens = list(tokens)
        self._number = {token: number for number, token in enumerate(self.tokens)}
        other = self._number[UNKNOWN if UNKNOWN in self._number else " "]
        self.other = bytes([other])
        lower = [self._number.get(token.lower(), number) for token, number in self._number.items()]
        of_words = (number if token.isalpha() else other for token, number in zip(self.tokens, lower, strict=True))
        self.in_words = bytes(of_words).ljust(MAX_SYMBOLS)  # bytes.translate needs 256 entries
        codes = [ord(token) if len(token) == 1 and token.isascii() else None for token in self.tokens]
        unused = (code for code in (*range(128, MAX_SYMBOLS), *range(128)) if code not in codes)
        self.as_ascii = bytes(next(unused) if code is None else code for code in codes).ljust(MAX_SYMBOLS)

    @classmethod
    def of(cls, vocab: Vocab) -> "Symbols":
        """Return a vocabulary's symbols; for letters all 27, even if the text lacks some."""
        return LETTERS if vocab.kind is Tokens.letters else cls(vocab.idx_to_token)

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> bytes:
        """Return the number of each character of a normalised text."""
        (other,) = self.other
        return bytes(self._number.get(character, other) for character in text)


LETTERS = Symbols(f" {ascii_lowercase}")


def check_size(vocab: Vocab, setting: str, instead: str) -> None:
    """Raise SettingError, which names the setting, for byte pairs or more than 256 symbols."""
    if vocab.kind is Tokens.bpe:
        raise SettingError(f"{setting}: not supported with data.tokens=bpe; use {instead}")
    if len(vocab) > MAX_SYMBOLS:
        rule = f"supports at most {MAX_SYMBOLS} symbols, but the run's vocabulary has {len(vocab):,}"
        raise SettingError(f"{setting}: {rule}; use {instead}, or train with a larger data.min_count")

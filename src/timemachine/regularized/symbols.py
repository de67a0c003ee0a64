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
    `in_words`: a table for `bytes.translate` that maps a letter to its lower case, and every other symbol to `other`.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens = list(tokens)
        self._number = {token: number for number, token in enumerate(self.tokens)}
        other = self._number[UNKNOWN if UNKNOWN in self._number else " "]
        self.other = bytes([other])
        lower = [self._number.get(token.lower(), number) for token, number in self._number.items()]
        of_words = (number if token.isalpha() else other for token, number in zip(self.tokens, lower, strict=True))
        self.in_words = bytes(of_words).ljust(MAX_SYMBOLS)  # bytes.translate needs 256 entries

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
        reason = f"supports at most {MAX_SYMBOLS} symbols, but the run's vocabulary has {len(vocab):,}"
        raise SettingError(f"{setting}: {reason}; use {instead}, or train with a larger data.min_count")

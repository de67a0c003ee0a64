"""From the bytes of a text to its characters: line ends, Project Gutenberg's headers and footers, normalisation."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from string import ascii_letters, whitespace
from typing import NamedTuple

from timemachine.config import Tokens
from timemachine.errors import SettingError
from timemachine.texts import Book

_KEPT = (ascii_letters + whitespace).encode()
_LETTERS_ELSE_SPACE = bytes(ord(chr(code).lower()) if chr(code) in ascii_letters else ord(" ") for code in range(256))


def normalise(text: bytes, tokens: Tokens = Tokens.letters) -> str:
    """Return the normalised text, as a model reads it.

    letters: in lower case, with one space for every run of bytes other than A-Z and a-z. (The bytes of a multi-byte
    character are not letters either, so nothing is decoded.) characters: decoded from UTF-8 to NFC, with line feeds as
    line ends. bpe: the same, but not converted to NFC. Raises UnicodeDecodeError for another encoding.
    """
    if tokens is not Tokens.letters:
        lines = with_line_feeds(text).decode()
        return unicodedata.normalize("NFC", lines) if tokens is Tokens.characters else lines
    return re.sub(b"  +", b" ", text.translate(_LETTERS_ELSE_SPACE)).decode("ascii")


# A book lies between these two lines. The first may be wrapped; the licence follows the second one.
_BOOK = re.compile(rb"^\*\*\* ?START OF[^*]{1,300}\*\*\*(.*?)^\*\*\* ?END OF", re.MULTILINE | re.DOTALL)
_LAST_LINE = re.compile(rb"^End of (?:the )?Project Gutenberg.*", re.MULTILINE | re.DOTALL | re.IGNORECASE)


def books_in(text: bytes) -> list[bytes]:
    """Return the books between Project Gutenberg's START and END lines.

    A line "End of … Project Gutenberg", which older files have before the END line, ends a book as well.
    """
    return [_LAST_LINE.sub(b"", book) for book in _BOOK.findall(text)]


MAX_AROUND = 30_000  # bytes of a header and a footer: with its licence, The War of the Worlds has 19,279


def is_edition(text: bytes, book: Book) -> bool:
    """Return whether these are the bytes of the catalogue's edition."""
    algorithm, _, digest = book.hash.partition(":")
    return hashlib.new(algorithm, text).hexdigest() == digest


def with_line_feeds(text: bytes) -> bytes:
    """Return a text, or several joined files, without byte order marks and with line feeds as line ends."""
    return text.replace(b"\xef\xbb\xbf", b"").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


class Text(NamedTuple):
    """The normalised text of files, and what was done to them: see `corpus.Corpus`."""

    characters: str
    left_out: int
    left_in: int
    lost_letters: int


def read(files: Iterable[tuple[Path, bytes]], tokens: Tokens) -> Text:
    """Return the normalised text of files, one after another.

    Of a file with books of Project Gutenberg, only these are read, unless so much lies around them that it must be
    other books. Letters are counted for `Tokens.letters` only, as `count_lost` does. Raises SettingError with the path
    of a file that is not a text, or contains only white space.
    """
    texts, left_out, left_in, lost = list[bytes](), 0, 0, 0
    for path, content in files:
        text = with_line_feeds(content)
        books = books_in(text)
        inside = b"\n".join(books)
        around = len(text) - len(inside)
        if around < min(len(inside), MAX_AROUND * len(books)):
            text, left_out = inside, left_out + around
        elif books:
            left_in += around
        _check(path, text, tokens)
        texts.append(text)
        lost += count_lost(text) if tokens is Tokens.letters else 0
    return Text(normalise(b"\n".join(texts), tokens), left_out, left_in, lost)


def _check(path: Path, text: bytes, tokens: Tokens) -> None:
    if b"\0" in text:
        raise SettingError(f"data.corpus={path}: not a text (it contains a NUL byte); use the path of a text in UTF-8")
    try:
        is_empty = not normalise(text, tokens).strip()
    except UnicodeDecodeError as error:
        reason = f"not valid UTF-8 (byte {error.object[error.start]:#04x}); convert a copy with iconv"
        raise SettingError(f"data.corpus={path}: {reason} -f <its encoding, such as latin1> -t UTF-8") from error
    if is_empty:
        reason = "contains no letter from A to Z; use another text, or train with data.tokens=characters"
        if tokens is not Tokens.letters:
            reason = "contains only white space; use another text"
        raise SettingError(f"data.corpus={path}: {reason}")


def count_lost(text: bytes) -> int:
    """Count the letters outside A-Z, which become spaces. The text is decoded as UTF-8 if valid, else as Latin-1."""
    remainder = text.translate(None, _KEPT)  # a tenth of an English text
    try:
        characters = remainder.decode("utf-8")
    except UnicodeDecodeError:
        characters = remainder.decode("latin-1")
    return sum(map(str.isalpha, characters))

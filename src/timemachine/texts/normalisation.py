"""From the bytes of a text to its characters: line ends, Project Gutenberg's headers and footers, normalisation."""

import hashlib
import re
import unicodedata
from pathlib import Path
from string import ascii_letters

from timemachine.config import Tokens
from timemachine.errors import SettingError
from timemachine.texts import Book

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


# Each pattern matches at most two lines, so that its time is linear in the length of any text.
MARKER = re.compile(rb"^\*\*\* ?(START|END) OF(?:.*\*\*\* *|.*\n(?!\*\*\*).*\*\*\* *|.*)$", re.MULTILINE)
END_OF = re.compile(rb"^End of (the )?Project Gutenberg", re.MULTILINE | re.IGNORECASE)


def without_gutenberg(text: bytes) -> bytes:
    """Remove Project Gutenberg's header and footer around each book of a text with line feeds.

    A book lies between a START line and the next START or END line; either may be wrapped onto a second line. A line
    "End of … Project Gutenberg" in the book's last paragraph ends it. Text before the first START line, or between an
    END and a START line, is header or footer.
    """
    first, *others = MARKER.split(text)
    kinds, parts = others[::2], others[1::2]
    books = [part for kind, part in zip(kinds, parts, strict=True) if kind == b"START"]
    if kinds[:1] != [b"START"]:
        books.insert(0, first)
    return b"\n".join(map(without_end, books))


def without_end(book: bytes) -> bytes:
    """Return a book up to a line "End of … Project Gutenberg" in its last paragraph, if there is one."""
    text = book.rstrip()
    last_paragraph = re.split(rb"\n\s*\n", text)[-1]
    end = END_OF.search(last_paragraph)
    return text[: end.start() - len(last_paragraph)] if end else book


def is_edition(text: bytes, book: Book) -> bool:
    """Return whether these are the bytes of the catalogue's edition."""
    algorithm, _, digest = book.hash.partition(":")
    return hashlib.new(algorithm, text).hexdigest() == digest


def with_line_feeds(text: bytes) -> bytes:
    """Return a text, or several joined files, without byte order marks and with line feeds as line ends."""
    return text.replace(b"\xef\xbb\xbf", b"").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def normalise_file(path: Path, text: bytes, tokens: Tokens) -> str:
    """Return a file's text, or a part of it, normalised. Raises SettingError with the file's path if it is not text."""
    if b"\0" in text:
        raise SettingError(f"data.corpus={path}: not a text (it contains a NUL byte); use the path of a text in UTF-8")
    try:
        return normalise(text, tokens)
    except UnicodeDecodeError as error:
        rule = f"not valid UTF-8 (byte {error.object[error.start]:#04x}); convert a copy with iconv"
        raise SettingError(f"data.corpus={path}: {rule} -f <its encoding, such as latin1> -t UTF-8") from error


def require_text(has_text: bool, path: Path, tokens: Tokens) -> None:
    """Raise SettingError unless some character of a normalised file is not white space."""
    if not has_text:
        rule = "contains no letter from A to Z; use another text, or train with data.tokens=characters"
        if tokens is not Tokens.letters:
            rule = "contains only white space; use another text"
        raise SettingError(f"data.corpus={path}: {rule}")

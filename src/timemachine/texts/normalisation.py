"""From the bytes of a text to its characters: line ends, Project Gutenberg's headers and footers, normalisation."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from string import ascii_letters, whitespace

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


# Each pattern matches at most two lines, so that its time is linear in the length of any text.
_MARKER = re.compile(rb"^\*\*\* ?(START|END) OF(?:.*\*\*\* *|.*\n(?!\*\*\*).*\*\*\* *|.*)$", re.MULTILINE)
_MARKER_START = re.compile(rb"\*\*\* ?(?:START|END) OF")  # a search takes a twentieth of the time
_END_OF = re.compile(rb"^End of (the )?Project Gutenberg", re.MULTILINE | re.IGNORECASE)
# The line may follow a text that ends without a line feed.
_HEADER = re.compile(
    rb"(?:^|(?<=[^\w\s]))(?:The )?Project Gutenberg(?:'s| E-?Book| E-?Text)\b", re.MULTILINE | re.IGNORECASE
)
_LICENCE_END = re.compile(
    rb"subscribe\s+to\s+our\s+email\s+newsletter\s+to\s+hear\s+about\s+new\s+eBooks\.|\*\*\* END: FULL LICENSE \*\*\*",
    re.IGNORECASE,
)
MAX_LICENCE = 30_000  # bytes; the licence, which old headers also contain, has 19,000
STRAY = 1_000  # bytes; the licence names Gutenberg every 250 bytes, a header every 400


def without_gutenberg(text: bytes) -> bytes:
    """Return a text with line feeds without Project Gutenberg's header and footer around each book.

    A book lies between a START line and the END line that is the next marker; either may be wrapped onto a second
    line. A line "End of … Project Gutenberg" in the book's last paragraph ends it. A text before, between or after the
    books is kept, without the header and the licence next to it. A line feed separates the parts.
    """
    return b"\n".join(text[start:stop] for start, stop in _parts_to_keep(text))


def _parts_to_keep(text: bytes) -> list[tuple[int, int]]:
    """Return where the parts of `without_gutenberg` start and stop."""
    markers = [match for start in _MARKER_START.finditer(text) if (match := _MARKER.match(text, start.start()))]
    parts, end = list[tuple[int, int]](), 0
    for marker, next_marker in pairwise(markers):
        if (marker[1], next_marker[1]) == (b"START", b"END"):
            parts += [_between_books(text, end, marker.start()), _book(text, marker.end(), next_marker.start())]
            end = next_marker.end()
    parts.append(_between_books(text, end, len(text)) if parts else (0, len(text)))
    return [(start, stop) for start, stop in parts if start < stop]


def _between_books(text: bytes, start: int, stop: int) -> tuple[int, int]:
    """Return the text between an END line (or the file's beginning) and a START line (or the file's end).

    The licence after the END line is removed, and the header before the START line. The rest is also removed if it is
    so short, or names Gutenberg so often, that it is part of a header or footer with other wording.
    """
    if stop < len(text) and (headers := [*_HEADER.finditer(text, max(start, stop - MAX_LICENCE), stop)]):
        stop = headers[-1].start()
    if start and (ends := [*_LICENCE_END.finditer(text, start, min(stop, start + MAX_LICENCE))]):
        start = ends[-1].end()
    if stop - start <= MAX_LICENCE:
        mentions = text[start:stop].lower().count(b"gutenberg")
        stop = start if stop - start <= STRAY * (mentions + 1) else stop
    return start, stop


def _book(text: bytes, start: int, stop: int) -> tuple[int, int]:
    """Return a book up to a line "End of … Project Gutenberg" in its last paragraph, if there is one."""
    tail_start = max(start, stop - MAX_LICENCE)
    tail = text[tail_start:stop].rstrip()
    last_paragraph = re.split(rb"\n\s*\n", tail)[-1]
    end = _END_OF.search(last_paragraph)
    return start, tail_start + len(tail) - len(last_paragraph) + end.start() if end else stop


def is_edition(text: bytes, book: Book) -> bool:
    """Return whether these are the bytes of the catalogue's edition."""
    algorithm, _, digest = book.hash.partition(":")
    return hashlib.new(algorithm, text).hexdigest() == digest


def with_line_feeds(text: bytes) -> bytes:
    """Return a text, or several joined files, without byte order marks and with line feeds as line ends."""
    return text.replace(b"\xef\xbb\xbf", b"").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def read(files: Iterable[tuple[Path, bytes]], tokens: Tokens) -> tuple[str, int, Counter[str]]:
    """Return the normalised text of files, one after another, the bytes left out, and the characters replaced.

    The bytes are those of Project Gutenberg's headers and footers, with line feeds; characters are counted for letters
    only, as `count_replaced` does. Raises SettingError with the path of a file that is not a text, or contains only
    white space.
    """
    texts, left_out, replaced = list[bytes](), 0, Counter[str]()
    for path, content in files:
        whole = with_line_feeds(content)
        text = without_gutenberg(whole)
        _check(path, text, tokens)
        texts.append(text)
        left_out += len(whole) - len(text)
        replaced += count_replaced(text) if tokens is Tokens.letters else Counter()
    return normalise(b"\n".join(texts), tokens), left_out, replaced


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


def count_replaced(text: bytes) -> Counter[str]:
    """Count the `digits`, `letters` outside A-Z and `other` characters, except white space, that become spaces.

    The text is decoded as UTF-8 if valid, otherwise as Latin-1.
    """
    remainder = text.translate(None, _KEPT)  # a tenth of an English text
    try:
        characters = remainder.decode("utf-8")
    except UnicodeDecodeError:
        characters = remainder.decode("latin-1")
    counts = Counter[str]()
    for character, count in Counter(characters).items():
        kind = "digits" if character.isdigit() else "letters" if character.isalpha() else "other"
        counts[kind] += 0 if character.isspace() else count
    return counts

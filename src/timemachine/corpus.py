"""From a book's name or a path to normalised characters: search, download, verify, strip, normalise.

As letters, the book's: every run of characters other than A-Z and a-z becomes one space, lower case. As characters:
all that the text has, in Unicode's normal form C, lines ended by a line feed.
"""

import hashlib
import os
import re
import sys
import unicodedata
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from string import ascii_lowercase

from timemachine.config import REPOSITORY, Tokens
from timemachine.errors import SettingError
from timemachine.texts import CATALOGUE

SAMPLE, DEFAULT = "sample", "time_machine"


@dataclass(frozen=True, slots=True)
class Corpus:
    """A text, ready for a model.

    `characters`: the text, normalised as `tokens` says; it takes 1, 2 or 4 bytes a character. `sha256`: of the bytes of
    the files at `paths`. `source`: what `data.corpus` finds it by, from any folder; of several texts a list.
    `left_out`: bytes of Project Gutenberg's headers and footers, with line feeds.
    """

    name: str
    title: str
    source: str | list[str]
    paths: tuple[Path, ...]
    characters: str
    sha256: str
    left_out: int = 0
    tokens: Tokens = Tokens.letters

    def rotated(self, start: int) -> "Corpus":
        """Return the text rotated to start at character `start`; it has one seam."""
        return replace(self, characters=self.characters[start:] + self.characters[:start])


def find_corpus(corpus: str | list[str], search_dirs: list[str], tokens: Tokens = Tokens.letters) -> Corpus:
    """Return the text that `data.corpus` names; of a list, or of a folder's `*.txt` by name, all joined.

    A book of the catalogue is looked up in `search_dirs`, seen from the repository, then in the user's cache, or else
    downloaded. For the default book the sample stands in, after a warning. Raises SettingError for another name or path
    that is not found, a wrong edition, and a file that is not a text, or as characters not in UTF-8.
    """
    if isinstance(corpus, list):
        return _joined([find_corpus(name, search_dirs, tokens) for name in corpus])
    if corpus == SAMPLE:
        return _read(Path(__file__).parent / "texts" / "sample.txt", SAMPLE, "the sample text", tokens)
    if corpus not in CATALOGUE:
        path, names = Path(corpus), [*CATALOGUE, SAMPLE]
        if os.path.isfile(path):
            return _read(path, path.stem, path.name, tokens, source=str(path.resolve()))
        if path.is_dir():
            path = path.resolve()
            texts = [_read(file, file.stem, file.name, tokens) for file in sorted(path.glob("[!.]*.txt"))]
            if not texts:
                raise SettingError(f"data.corpus={corpus}: has no *.txt; type a folder of texts, or the path of a text")
            return replace(_joined(texts), name=path.name, title=path.name, source=str(path))
        close = get_close_matches(corpus, names, 1)
        instead = f"data.corpus={close[0]}" if close else f"a book ({', '.join(names)})"
        raise SettingError(f"data.corpus={corpus}: not found; type {instead}, or the path of a text")
    book = CATALOGUE[corpus]
    places = [(REPOSITORY / folder).resolve() / f"{corpus}.txt" for folder in search_dirs]
    for path in filter(os.path.isfile, places):
        if not book.is_edition(path.read_bytes()):
            rule = f"{path} is another edition than the catalogue's ({book.hash})"
            raise SettingError(f"data.corpus={corpus}: {rule}; type data.corpus={path} to use it all the same")
        return _read(path, corpus, book.title, tokens)
    from timemachine.texts.download import downloaded  # loaded only where there is something to download

    try:
        return _read(downloaded(corpus, book, places), corpus, book.title, tokens)
    except SettingError as error:
        if corpus != DEFAULT:
            raise
        warning = "This run trains on the short SAMPLE text of this project: its numbers are not the book's."
        print("!" * 78, error, warning, "!" * 78, sep="\n", file=sys.stderr)
        return find_corpus(SAMPLE, [], tokens)


def _joined(texts: list[Corpus]) -> Corpus:
    if len(texts) == 1:
        return texts[0]
    paths, tokens = tuple(path for text in texts for path in text.paths), texts[0].tokens
    joined = (" " if tokens is Tokens.letters else "\n").join(text.characters for text in texts)
    return Corpus(
        name="+".join(text.name for text in texts),
        title=" and ".join(text.title for text in texts),
        source=[str(text.source) for text in texts],
        paths=paths,
        characters=normalise(joined.encode(), tokens),
        sha256=hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest(),
        left_out=sum(text.left_out for text in texts),
        tokens=tokens,
    )


_LETTERS_ELSE_SPACE = bytes(code if code in ascii_lowercase.encode() else ord(" ") for code in range(256))


def normalise(text: bytes, tokens: Tokens = Tokens.letters) -> str:
    """Return the text as its model reads it.

    As letters: in lower case, with one space for every run of bytes other than A-Z and a-z. The parts of a multi-byte
    character are no letters either, so the result is that of the decoded text. As characters: from UTF-8 in normal
    form C, with a line feed for each kind of line end. Raises UnicodeDecodeError for another encoding.
    """
    if tokens is Tokens.characters:
        lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return unicodedata.normalize("NFC", lines.decode())
    characters = text.lower().translate(_LETTERS_ELSE_SPACE)
    while b"  " in characters:  # a regular expression needs 60 bytes a match
        characters = characters.replace(b"  ", b" ")
    return characters.decode("ascii")


# Each pattern reads a line, and the line below at most: its time is linear in the length of any text.
_MARKER = re.compile(rb"^\*\*\* ?(START|END) OF(?:.*\*\*\* *|.*\n(?!\*\*\*).*\*\*\* *|.*)$", re.MULTILINE)
_END_OF = re.compile(rb"^End of (the )?Project Gutenberg", re.MULTILINE | re.IGNORECASE)


def without_gutenberg(text: bytes) -> bytes:
    """Return a text with line feeds without Project Gutenberg's header and footer around each book in it.

    A book lies between a START line and the next START or END line; either may be wrapped onto a second line. A line
    "End of … Project Gutenberg" in the book's last paragraph ends it. Text before the first START line, or between an
    END and a START line, is header or footer.
    """
    first, *others = _MARKER.split(text)
    kinds, parts = others[::2], others[1::2]
    books = [part for kind, part in zip(kinds, parts, strict=True) if kind == b"START"]
    if kinds[:1] != [b"START"]:
        books.insert(0, first)
    return b"\n".join(map(_without_end, books))


def _without_end(book: bytes) -> bytes:
    text = book.rstrip()
    last_paragraph = re.split(rb"\n\s*\n", text)[-1]
    end = _END_OF.search(last_paragraph)
    return text[: end.start() - len(last_paragraph)] if end else book


def _read(path: Path, name: str, title: str, tokens: Tokens, source: str | None = None) -> Corpus:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise SettingError(f"data.corpus={path}: cannot be read ({error.strerror}); type the path of a text") from error
    if b"\0" in text:
        raise SettingError(f"data.corpus={path}: is not a text in UTF-8, it holds a NUL byte; type the path of a text")
    sha256 = hashlib.sha256(text).hexdigest()
    whole = text.replace(b"\xef\xbb\xbf", b"").replace(b"\r\n", b"\n").replace(b"\r", b"\n")  # of several files, too
    text = without_gutenberg(whole)
    try:
        characters = normalise(text, tokens)
    except UnicodeDecodeError as error:
        rule = f"is not in UTF-8 (byte {error.object[error.start]:#04x}); use iconv -f <its encoding, such as latin1>"
        raise SettingError(f"data.corpus={path}: {rule} -t UTF-8 to make a copy") from error
    if not characters.strip():
        rule = "has no letter from A to Z; use data.tokens=characters" if tokens is Tokens.letters else "has no text"
        raise SettingError(f"data.corpus={path}: {rule}")
    return Corpus(name, title, source or name, (path,), characters, sha256, len(whole) - len(text), tokens)

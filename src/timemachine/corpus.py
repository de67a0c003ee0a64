"""Find a text by a book's name or a path, download and verify it, and read its normalised characters.

`data.tokens` decides which characters are kept and how they are normalised: see `normalise` in `texts.normalisation`.
"""

import hashlib
import os
import sys
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from timemachine.config import REPOSITORY, Tokens
from timemachine.errors import SettingError
from timemachine.texts import CATALOGUE, normalisation

SAMPLE, DEFAULT = "sample", "time_machine"
LARGE = 256 << 20  # bytes; a larger text is read from its files on demand (texts/large.py)


@dataclass(frozen=True, slots=True)
class Corpus:
    """A text, ready for a model.

    `characters`: the text normalised for `tokens`, with 1, 2 or 4 bytes per character; for a large text a `LargeText`,
    with the `len`, slices and iteration of a str. `sha256`: hash of the bytes of the files at `paths`. `source`: value
    of `data.corpus` that finds the text from any folder; a list for several texts. `left_out`: size in bytes of the
    removed headers and footers of Project Gutenberg, with line feeds.
    """

    name: str
    title: str
    source: str | list[str]
    paths: tuple[Path, ...]
    characters: str = ""
    sha256: str = ""
    left_out: int = 0
    tokens: Tokens = Tokens.letters

    @property
    def is_large(self) -> bool:
        """Return whether `characters` is a `LargeText`."""
        return type(self.characters) is not str

    def rotated(self, start: int) -> "Corpus":
        """Return the text rotated to start at character `start`: its beginning follows its end."""
        text: Any = self.characters
        return replace(self, characters=text.rotated(start) if self.is_large else text[start:] + text[:start])


def find_corpus(name: str | list[str], search_dirs: list[str], tokens: Tokens = Tokens.letters) -> Corpus:
    """Return the text with this value of `data.corpus`; for a list, or a folder's sorted `*.txt`, the joined texts.

    A book of the catalogue is looked up in `search_dirs`, relative to the repository, then in the user's cache, then
    downloaded. If the default book is not available, the sample replaces it, with a warning. Raises SettingError if any
    other text is not found, and for a file that is not text, or that is not UTF-8 unless it is read as letters.
    """
    found, texts, parts, left_out = _found(name, search_dirs), list[bytes](), list[str](), 0
    path = found.paths[0]
    try:
        if sum(path.stat().st_size for path in found.paths) > LARGE:
            from timemachine.texts.large import LargeText

            text: Any = LargeText(found.paths, tokens)
            return replace(found, characters=text, sha256=text.sha256, left_out=text.left_out, tokens=tokens)
        for path in found.paths:
            texts.append(path.read_bytes())
            whole = normalisation.with_line_feeds(texts[-1])
            body = normalisation.without_gutenberg(whole)
            left_out += len(whole) - len(body)
            parts.append(normalisation.normalise_file(path, body, tokens))
            normalisation.require_text(bool(parts[-1].strip()), path, tokens)
    except OSError as error:
        where = error.filename or path
        raise SettingError(f"data.corpus={where}: cannot be read ({error.strerror}); use the path of a text") from error
    characters = parts[0] if len(parts) == 1 else normalisation.normalise("\n".join(parts).encode(), tokens)
    sha256 = hashlib.sha256(b"\0".join(texts)).hexdigest()
    return replace(found, characters=characters, sha256=sha256, left_out=left_out, tokens=tokens)


def _found(name: str | list[str], search_dirs: list[str]) -> Corpus:
    """Find a text without reading it."""
    if isinstance(name, list):
        several = [_found(it, search_dirs) for it in name]
        of_each, titles, sources = zip(*((it.name, it.title, str(it.source)) for it in several), strict=True)
        paths = tuple(path for it in several for path in it.paths)
        return several[0] if len(several) == 1 else Corpus("+".join(of_each), " and ".join(titles), [*sources], paths)
    if name == SAMPLE:
        return Corpus(SAMPLE, "the sample text", SAMPLE, (Path(__file__).parent / "texts" / "sample.txt",))
    if name not in CATALOGUE:
        path, names = Path(name), [*CATALOGUE, SAMPLE]
        if os.path.isfile(path):
            return Corpus(path.stem, path.name, str(path.resolve()), (path,))
        if name and path.is_dir():  # Path("") is the working directory
            path = path.resolve()
            if not (paths := tuple(sorted(path.glob("[!.]*.txt")))):
                raise SettingError(f"data.corpus={name}: contains no *.txt files; use the path of a text or folder")
            return Corpus(path.name, path.name, str(path), paths)
        close = get_close_matches(name, names, 1)
        instead = f"data.corpus={close[0]}" if close else f"a book ({', '.join(names)})"
        raise SettingError(f"data.corpus={name}: not found; use {instead}, or the path of a text")
    book = CATALOGUE[name]
    places = [(REPOSITORY / folder).resolve() / f"{name}.txt" for folder in search_dirs]
    for path in filter(os.path.isfile, places):
        if not normalisation.is_edition(path.read_bytes(), book):
            rule = f"{path} is not the catalogue's edition ({book.hash})"
            raise SettingError(f"data.corpus={name}: {rule}; use data.corpus={path} to read it anyway")
        return Corpus(name, book.title, name, (path,))
    from timemachine.texts.download import downloaded  # deferred: rarely needed

    try:
        return Corpus(name, book.title, name, (downloaded(name, book, places),))
    except SettingError as error:
        if name != DEFAULT:
            raise
        warning = "This run reads the project's short SAMPLE text, so its results differ from the book's."
        print("!" * 78, error, warning, "!" * 78, sep="\n", file=sys.stderr)
        return _found(SAMPLE, [])

"""Find a text by a book's name or a path, download and verify it, and read its normalised characters.

`data.tokens` decides which characters are kept and how they are normalised: see `normalise` in `texts.normalisation`.
"""

import hashlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from timemachine.config import REPOSITORY, Tokens, require
from timemachine.errors import SettingError
from timemachine.texts import CATALOGUE, normalisation

SAMPLE, DEFAULT = "sample", "time_machine"


@dataclass(frozen=True, slots=True)
class Corpus:
    """A text, ready for a model.

    `characters`: the text normalised for `tokens`. `sha256`: hash of the bytes of the files at `paths`, or of a
    generated text, which has no `paths`. `source`: value of `data.corpus` that finds the text from any folder; a list
    for several texts. `left_out`: size in bytes, with line feeds, of what lies outside Project Gutenberg's START and
    END lines and is not read; `left_in`: of what is read, since it is too long for headers and footers.
    `lost_letters`: how many letters outside A-Z became spaces.
    """

    name: str
    title: str
    source: str | list[str]
    paths: tuple[Path, ...]
    characters: str = ""
    sha256: str = ""
    left_out: int = 0
    left_in: int = 0
    lost_letters: int = 0
    tokens: Tokens = Tokens.letters

    def rotated(self, start: int) -> "Corpus":
        """Return the text rotated to start at character `start`: its beginning follows its end."""
        return replace(self, characters=self.characters[start:] + self.characters[:start])


def find_corpus(name: str | list[str], search_dirs: Sequence[str | Path], tokens: Tokens = Tokens.letters) -> Corpus:
    """Return the text with this value of `data.corpus`; for a list, or a folder's sorted `*.txt`, the joined texts.

    A book of the catalogue is looked up in `search_dirs`, relative to the repository, then in the user's cache, then
    downloaded. If the default book is not available, the sample replaces it, with a warning. `recall`, or for a delay
    other than 16 `recall_32`, is generated: see `texts.recall`. Raises SettingError if any other text is not found, and
    for a file that is not text, or that is not UTF-8 unless it is read as letters.
    """
    are_folders = isinstance(search_dirs, list | tuple) and all(isinstance(each, str | Path) for each in search_dirs)
    require(are_folders, "data.search_dirs", search_dirs, "must be a list of folders", "[books]")
    if isinstance(name, str) and name.startswith("recall"):
        from timemachine.texts.recall import delay_of, recall_text  # deferred: rarely needed

        if delay := delay_of(name):
            text, title = recall_text(delay), f"the recall corpus with a delay of {delay}"
            return Corpus(name, title, name, (), text, hashlib.sha256(text.encode()).hexdigest(), tokens=tokens)
    corpus = _located(name, search_dirs)
    try:
        files = [path.read_bytes() for path in corpus.paths]
    except OSError as error:
        reason = f"cannot be read ({error.strerror}); use the path of a text"
        raise SettingError(f"data.corpus={error.filename or name}: {reason}") from error
    normalised = normalisation.read(zip(corpus.paths, files, strict=True), tokens)
    # NUL between files, so that other files with the same bytes are another text.
    sha256 = hashlib.sha256(b"\0".join(files)).hexdigest()
    return replace(corpus, sha256=sha256, tokens=tokens, **normalised._asdict())


def corpus_of(text: str, tokens: Tokens = Tokens.letters) -> Corpus:
    """Return a string as a corpus. Raises SettingError if nothing is left after its normalisation."""
    content = text.encode()
    normalised = normalisation.read([(Path("text"), content)], tokens)
    sha256 = hashlib.sha256(content).hexdigest()
    return Corpus("text", "a text", "text", (), sha256=sha256, tokens=tokens, **normalised._asdict())


def _located(name: str | list[str], search_dirs: Sequence[str | Path]) -> Corpus:
    """Find a text without reading it."""
    if isinstance(name, list):
        texts = [_located(text_name, search_dirs) for text_name in name]
        if len(texts) == 1:
            return texts[0]
        return Corpus(
            "+".join(text.name for text in texts),
            " and ".join(text.title for text in texts),
            [str(text.source) for text in texts],
            tuple(path for text in texts for path in text.paths),
        )
    if name == SAMPLE:
        return Corpus(SAMPLE, "the sample text", SAMPLE, (Path(__file__).parent / "texts" / "sample.txt",))
    if name not in CATALOGUE:
        path, names = Path(name), ", ".join([*CATALOGUE, SAMPLE, "recall"])
        if os.path.isfile(path):
            return Corpus(path.stem, path.name, str(path.resolve()), (path,))
        if name and os.path.isdir(path):  # Path("") is the working directory
            path = path.resolve()
            if not (paths := tuple(sorted(path.glob("[!.]*.txt")))):
                raise SettingError(f"data.corpus={name}: contains no *.txt files; use the path of a text or folder")
            return Corpus(path.name, path.name, str(path), paths)
        raise SettingError(f"data.corpus={name}: not found; use the path of a text, or a book: {names}")
    book = CATALOGUE[name]
    places = [(REPOSITORY / folder).resolve() / f"{name}.txt" for folder in search_dirs]
    for path in filter(os.path.isfile, places):
        if not normalisation.is_edition(path.read_bytes(), book):
            reason = f"{path} is not the catalogue's edition ({book.hash})"
            raise SettingError(f"data.corpus={name}: {reason}; use data.corpus={path} to read it anyway")
        return Corpus(name, book.title, name, (path,))
    from timemachine.texts.download import downloaded  # deferred: rarely needed

    try:
        return Corpus(name, book.title, name, (downloaded(name, book, places),))
    except SettingError as error:
        if name != DEFAULT:
            raise
        warning = "This run reads the project's short SAMPLE text, so its results differ from the book's."
        print("!" * 78, error, warning, "!" * 78, sep="\n", file=sys.stderr)
        return _located(SAMPLE, [])

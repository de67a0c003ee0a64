"""From a book's name or a path to normalised characters: search, download, verify, strip, normalise.

Normalisation is the book's: every run of characters other than A-Z and a-z becomes one space, lower case.
"""

import hashlib
import os
import re
import sys
import threading
import urllib.request
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from http.client import HTTPException
from pathlib import Path

from timemachine.config import REPOSITORY, SettingError

SAMPLE = "sample"
DEFAULT = "time_machine"

LARGEST = 1 << 30  # bytes of a text

# Seconds. Two mirrors that do not answer must not take longer than ten in all; a slow line may take a minute.
ANSWERS_WITHIN = 4.0
DONE_WITHIN = 60.0


@dataclass(frozen=True, slots=True)
class Book:
    """One edition: where its bytes are, how many, and what they hash to (`algorithm:digest`)."""

    title: str
    author: str
    num_bytes: int
    hash: str
    urls: tuple[str, ...]


def _github(repository: str, path: str, commit: str) -> str:
    return f"https://raw.githubusercontent.com/{repository}/{commit}/{path}"


_MONKEYS = ("yasserglez/monkeys-typing", "c7d15802cedd29dc0a194612d3777a656cb43caa")

CATALOGUE = {
    DEFAULT: Book(
        "The Time Machine",
        "H. G. Wells",
        178_979,
        "sha1:090b5e7e70c295757f55df93cb0a180b9691891a",
        (
            "http://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt",
            _github("Mech-Who/LearnD2L", "Chapter8/data/timemachine.txt", "0ada6bb530104b288476981cbe2b8812ad50ac19"),
        ),
    ),
    "war_of_the_worlds": Book(
        "The War of the Worlds",
        "H. G. Wells",
        358_540,
        "sha256:8636fbce724d98946a8c6383216e4e6de94cb00bdace4ad62d8ce6457a9338a1",
        (_github("gabriel19913/count_words", "the_war_of_the_worlds.txt", "6e895d12169017139390193e2a7c15fc1ca6f073"),),
    ),
    "pride_and_prejudice": Book(
        "Pride and Prejudice",
        "Jane Austen",
        684_768,
        "sha256:dfc684d4f857fa938268f9ab9c5567b64bd0691251eca959644adeabe6287a4d",
        (
            _github(
                "MichaelPaulukonis/common-corpus",
                "corpus/literature/jane.austen.pride.and.prejudice.txt",
                "717d3f32e7a5d2daa25e93e01de36fbbb9890386",
            ),
        ),
    ),
    "hound_of_the_baskervilles": Book(
        "The Hound of the Baskervilles",
        "Arthur Conan Doyle",
        327_348,
        "sha256:7df4ed194b81bb027d8b476733c12cad5548b38c9a0e7c39299850f86bf8769d",
        (_github(_MONKEYS[0], "books/the_hound_of_the_baskervilles.txt", _MONKEYS[1]),),
    ),
    "the_lost_world": Book(
        "The Lost World",
        "Arthur Conan Doyle",
        432_766,
        "sha256:434fa407896a9292314b51c79b42a84788798a2f8c8308d8a10aa43bfc3f91d1",
        (_github(_MONKEYS[0], "books/the_lost_world.txt", _MONKEYS[1]),),
    ),
    "alices_adventures_in_wonderland": Book(
        "Alice's Adventures in Wonderland",
        "Lewis Carroll",
        148_580,
        "sha256:6d3703c0fe93513ed49908dceda8f437dac7950942dbc4b0dcad907304326caa",
        (_github(_MONKEYS[0], "books/alices_adventures_in_wonderland.txt", _MONKEYS[1]),),
    ),
    "a_tale_of_two_cities": Book(
        "A Tale of Two Cities",
        "Charles Dickens",
        773_928,
        "sha256:8d553d61d2b89f12dceb3f9bf3d03115629162d9cccd4023ee5811d2e2486551",
        (_github(_MONKEYS[0], "books/tale_of_2_cities.txt", _MONKEYS[1]),),
    ),
    "adventures_of_huckleberry_finn": Book(
        "Adventures of Huckleberry Finn",
        "Mark Twain",
        578_345,
        "sha256:63ce344802687b6a791331437dc731fa87dab01a2ae342a58accac63e02ba44c",
        (_github(_MONKEYS[0], "books/adventures_of_huckleberry_finn.txt", _MONKEYS[1]),),
    ),
}


@dataclass(frozen=True, slots=True)
class Corpus:
    """A text, ready for a model.

    `characters`: the normalised text, letters a-z and single spaces, one byte each. `sha256`: of the bytes of the file
    at `path`. `source`: what `data.corpus` finds it by, from any folder. `stands_in`: it is the sample, taken for the
    default book.
    """

    name: str
    title: str
    source: str
    path: Path
    characters: bytes
    sha256: str
    stands_in: bool = False

    def replaced(self) -> dict[str, int]:
        """How many digits, letters outside A-Z (accents) and other characters normalisation turned into spaces.

        White space is not counted. Text is UTF-8 where that decodes, else Latin-1.
        """
        body = _body(self.path.read_bytes())
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError:
            text = body.decode("latin-1")
        counts = {"digits": 0, "accents": 0, "other": 0}
        for character, count in Counter(text).items():
            if character.isdigit():
                counts["digits"] += count
            elif character.isalpha():
                counts["accents"] += 0 if character.isascii() else count
            elif not character.isspace():
                counts["other"] += count
        return counts


def find_corpus(corpus: str, search_dirs: list[str]) -> Corpus:
    """The text that `data.corpus` names.

    A book of the catalogue is searched in `search_dirs` (relative ones from the repository's root), then in the user's
    cache, then downloaded. Where the default book cannot be had, the sample stands in, after a warning. Raises
    SettingError for a name or path that cannot be had, a wrong edition, and a file that is not a text.
    """
    if corpus == SAMPLE:
        return _sample()
    if corpus not in CATALOGUE:
        path = Path(corpus)
        if not os.path.isfile(path):
            raise SettingError(
                f"data.corpus={corpus}: {_why_not(path)}; type {_nearest(corpus)}, or the path of a text"
            )
        return _read(path, path.stem, path.name, source=str(path.resolve()))
    book = CATALOGUE[corpus]
    folders = [REPOSITORY / folder for folder in search_dirs]
    for path in (folder / f"{corpus}.txt" for folder in folders):
        if path.is_file():
            found = _read(path, corpus, book.title)
            if not _is_edition(path.read_bytes(), book):
                raise SettingError(
                    f"data.corpus={corpus}: {path} is another edition than the catalogue's ({book.hash}); type "
                    f"data.corpus={path} to use it all the same"
                )
            return found
    try:
        return _read(_downloaded(corpus, book), corpus, book.title)
    except OSError as error:
        if corpus == DEFAULT:
            _warn_of_sample(folders, error)
            return _sample(stands_in=True)
        where = "".join(f"put the book at {folder.resolve()}/{corpus}.txt, or " for folder in folders)
        raise SettingError(
            f"data.corpus={corpus}: not found and not downloaded ({error}); {where}type data.corpus=<path of a text>"
        ) from error


def at_hand(search_dirs: list[str]) -> list[Corpus]:
    """The books of the catalogue that lie in `search_dirs` or in the user's cache; nothing is downloaded.

    Another edition than the catalogue's is passed over.
    """
    import pooch

    folders = [*(REPOSITORY / folder for folder in search_dirs), Path(pooch.os_cache("timemachine"))]
    books = []
    for name, book in CATALOGUE.items():
        paths = (folder / f"{name}.txt" for folder in folders)
        found = next((path for path in paths if path.is_file() and _is_edition(path.read_bytes(), book)), None)
        if found is not None:
            books.append(_read(found, name, book.title))
    return books


def normalise(text: bytes) -> bytes:
    """Every run of bytes other than A-Z and a-z becomes one space, lower case.

    Bytes, because the parts of a multi-byte character are no letters either: the result is that of the decoded text.
    """
    characters = bytearray()
    for start in range(0, len(text), 1 << 20):  # in pieces: a regular expression needs 60 bytes a match
        piece = re.sub(rb"  +", b" ", text[start : start + (1 << 20)].translate(_LETTERS_ELSE_SPACE))
        joins_spaces = characters.endswith(b" ") and piece.startswith(b" ")
        characters += piece[joins_spaces:]
    return bytes(characters)


_LETTERS_ELSE_SPACE = bytes(
    ord(chr(code).lower()) if code < 128 and chr(code).isalpha() else 0x20 for code in range(256)
)


def without_gutenberg(text: bytes) -> bytes:
    """What lies between Project Gutenberg's START and END lines, less a trailing "End of … Project Gutenberg" line."""
    if start := re.search(rb"^\*\*\* ?START OF.*$", text, re.MULTILINE):
        text = text[start.end() :]
    if end := re.search(rb"^\*\*\* ?END OF.*$", text, re.MULTILINE):
        text = text[: end.start()]
    return re.sub(rb"^End of (the )?Project Gutenberg.*(\r?\n.+)*\s*\Z", b"", text, flags=re.MULTILINE | re.IGNORECASE)


def _body(text: bytes) -> bytes:
    return without_gutenberg(text.removeprefix(b"\xef\xbb\xbf"))


def _read(path: Path, name: str, title: str, source: str | None = None, stands_in: bool = False) -> Corpus:
    try:
        size = path.stat().st_size  # 0 of what the kernel makes up as it is read, perhaps without end
        text = path.read_bytes() if 0 < size <= LARGEST else b""
    except OSError as error:
        raise SettingError(f"data.corpus={path}: cannot be read ({error.strerror}); type the path of a text") from error
    if size > LARGEST:
        rule = f"has {size:,} bytes, and {LARGEST:,} are the most"
        raise SettingError(f"data.corpus={path}: {rule}; type the path of a shorter text")
    if b"\0" in text:
        raise SettingError(f"data.corpus={path}: is binary, it holds a NUL byte; type the path of a text")
    characters = normalise(_body(text))
    if not characters.strip():
        raise SettingError(f"data.corpus={path}: holds no letter from A to Z; type the path of an English text")
    return Corpus(name, title, source or name, path, characters, hashlib.sha256(text).hexdigest(), stands_in)


def _sample(stands_in: bool = False) -> Corpus:
    return _read(Path(__file__).parent / "assets" / "sample.txt", SAMPLE, "the sample text", stands_in=stands_in)


def _nearest(corpus: str) -> str:
    close = get_close_matches(corpus, [*CATALOGUE, SAMPLE], 1)
    return f"data.corpus={close[0]}" if close else "a book (" + ", ".join([*CATALOGUE, SAMPLE]) + ")"


def _why_not(path: Path) -> str:
    return "is not a file" if os.path.exists(path) else "there is no such book or file"


def _warn_of_sample(folders: list[Path], error: OSError) -> None:
    line = "!" * 78
    print(
        f"{line}\n"
        f"  The Time Machine could not be had ({error}).\n"
        "  This run trains on the short SAMPLE text that ships with the project, so its\n"
        "  numbers are not the book's. To supply the book, type data.corpus=<its path>, or put it at\n"
        + "".join(f"    {folder.resolve()}/{DEFAULT}.txt\n" for folder in folders)
        + f"{line}",
        file=sys.stderr,
    )


def _is_edition(text: bytes, book: Book) -> bool:
    algorithm, _, digest = book.hash.partition(":")
    return hashlib.new(algorithm, text).hexdigest() == digest


def _downloaded(name: str, book: Book) -> Path:
    """The book's file in the user's cache, fetched from the first mirror that has it. Raises OSError.

    One process fetches, others that want the book meanwhile wait for it, as long as a download may take.
    """
    import pooch
    from filelock import FileLock, Timeout

    def fetch(url: str, file: str, _: object) -> None:
        Path(file).write_bytes(_fetched(url, book.num_bytes))

    pooch.get_logger().setLevel("WARNING")
    cache = pooch.os_cache("timemachine")
    cache.mkdir(parents=True, exist_ok=True)
    lock = FileLock(cache / f".{name}.lock", DONE_WITHIN)
    with suppress(Timeout):
        lock.acquire()
    failures = []
    try:
        for url in book.urls:
            try:
                return Path(pooch.retrieve(url, book.hash, fname=f"{name}.txt", path=cache, downloader=fetch))
            except (OSError, ValueError) as error:  # pooch raises ValueError for a wrong checksum, and keeps nothing
                failures.append(str(error).split("\n")[0])
    finally:
        lock.release()
    raise OSError("; ".join(dict.fromkeys(failures)))


def _fetched(url: str, num_bytes: int) -> bytes:
    """The bytes behind `url`, not more than `num_bytes` + 1. Raises OSError.

    In a thread, because neither the look-up of a name nor a server that sends a byte a second obeys a socket's timeout.
    """
    received = bytearray()
    failure: list[Exception] = []
    answered = threading.Event()
    done = threading.Event()

    def fetch() -> None:
        try:
            with urllib.request.urlopen(url, timeout=ANSWERS_WITHIN) as response:
                while len(received) <= num_bytes and not done.is_set() and (piece := response.read1(1 << 16)):
                    answered.set()
                    received.extend(piece)
        except (OSError, ValueError, HTTPException) as error:
            failure.append(error)
        answered.set()
        done.set()

    threading.Thread(target=fetch, daemon=True).start()
    host = url.split("/")[2]
    if not answered.wait(ANSWERS_WITHIN):
        done.set()
        raise TimeoutError(f"{host} does not answer")
    if not done.wait(DONE_WITHIN):
        done.set()
        raise TimeoutError(f"{host} is too slow")
    if failure:
        raise OSError(f"{host}: {getattr(failure[0], 'reason', failure[0])}")
    if len(received) != num_bytes:
        raise OSError(f"{host} sent another number of bytes than the book has")
    return bytes(received)

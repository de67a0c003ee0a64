"""Downloads from a server on this machine."""

import hashlib
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from timemachine.corpus import find_corpus
from timemachine.errors import SettingError
from timemachine.texts import CATALOGUE, Book, download

TEXT = b"The Time Traveller was expounding a recondite matter to us.\n" * 500
CHARACTERS = re.sub("[^A-Za-z]+", " ", TEXT.decode()).lower()  # section 9.2.1 of the book
Offer = Callable[..., None]


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Offer]:
    """Return a function that adds a book to the catalogue with these URLs."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "good").write_bytes(TEXT)
    (tmp_path / "other_edition").write_bytes(TEXT.swapcase())
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()

        def add(*names: str) -> None:
            urls = tuple(f"http://127.0.0.1:{server.server_port}/{name}" for name in names)
            book = Book("A Book", "An Author", f"sha256:{hashlib.sha256(TEXT).hexdigest()}", urls)
            monkeypatch.setitem(CATALOGUE, "a_book", book)

        yield add
        server.shutdown()


def cached() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in download.cache_folder().glob("*")}


def test_a_book_is_downloaded_once(offer: Offer) -> None:
    offer("good")
    book = find_corpus("a_book", ["/nowhere"])
    assert (book.name, book.title, book.source, book.characters) == ("a_book", "A Book", "a_book", CHARACTERS)
    assert cached() == {"a_book.txt": TEXT}
    offer("not_found")
    assert find_corpus("a_book", ["/nowhere"]) == book


@pytest.mark.parametrize("bad", ["other_edition", "not_found"])
def test_a_bad_url(offer: Offer, bad: str) -> None:
    """It leaves no file, and the next URL is used."""
    offer(bad)
    with pytest.raises(SettingError, match=r"^data\.corpus=a_book: [^\n]*$"):
        find_corpus("a_book", ["/nowhere"])
    assert cached() == {}
    offer(bad, "good")
    assert find_corpus("a_book", []).characters == CHARACTERS

"""Downloads from good and bad mirrors, all on this machine."""

import hashlib
import http.server
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from timemachine.corpus import find_corpus
from timemachine.errors import SettingError
from timemachine.texts import CATALOGUE, Book, download

TEXT = b"The Time Traveller was expounding a recondite matter to us.\n" * 500
CHARACTERS = re.sub("[^A-Za-z]+", " ", TEXT.decode()).lower()  # section 9.2.1 of the book
Offered = Callable[..., None]


class Mirrors(http.server.ThreadingHTTPServer):
    """A server of mirrors: each path is one of `GOOD` or `BAD`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Mirror)
        self.asked: list[str] = []
        self.sent = 0  # bytes of books
        self.closing = threading.Event()


class Mirror(http.server.BaseHTTPRequestHandler):
    server: Mirrors

    def do_GET(self) -> None:
        name = self.path.removeprefix("/")
        self.server.asked.append(name)
        with suppress(OSError):  # the client has disconnected
            (GOOD | BAD)[name](self)

    def log_message(self, *arguments: object) -> None:
        pass


def _send(mirror: Mirror, *parts: bytes, length: int = len(TEXT)) -> None:
    mirror.send_response(200)
    mirror.send_header("Content-Length", str(length))
    mirror.end_headers()
    for part in parts:
        mirror.wfile.write(part)
        mirror.server.sent += len(part)


def _drip(mirror: Mirror, *parts: bytes) -> None:
    """Send a byte every tenth of a second, so that no read times out."""
    for byte in b"".join(parts):
        mirror.wfile.write(bytes([byte]))
        if mirror.server.closing.wait(0.1):
            break


def _redirect(mirror: Mirror, to: str) -> None:
    mirror.send_response(302)
    mirror.send_header("Location", to)
    mirror.end_headers()


GOOD: dict[str, Callable[[Mirror], object]] = {
    "good": lambda mirror: _send(mirror, TEXT),
    "redirects": lambda mirror: _redirect(mirror, "/good"),
}
BAD: dict[str, Callable[[Mirror], object]] = {
    "wrong": lambda mirror: _send(mirror, TEXT.swapcase()),
    "half": lambda mirror: _send(mirror, TEXT[: len(TEXT) // 2]),
    "not_found": lambda mirror: mirror.send_error(404),
    "never_answers": lambda mirror: mirror.server.closing.wait(),
    "drips": lambda mirror: _drip(mirror, b"HTTP/1.0 200 OK\r\n\r\n", TEXT),
    "endless": lambda mirror: _send(mirror, *[TEXT] * 10_000, length=10_000 * len(TEXT)),  # 300 MB
    "redirects_to_a_file": lambda mirror: _redirect(mirror, "file:///etc/hostname"),
    "no_http": lambda mirror: mirror.wfile.write(b"220 mail.example.org ESMTP\r\n"),
}


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirrors]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "ANSWERS_WITHIN", 0.5)
    monkeypatch.setattr(download, "DEADLINE", 2.0)
    with Mirrors() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield server
        server.closing.set()
        server.shutdown()


@pytest.fixture
def offered(mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch) -> Offered:
    """Add a book to the catalogue with mirrors of these names."""

    def offer(*names: str) -> None:
        urls = tuple(f"http://127.0.0.1:{mirrors.server_port}/{name}" for name in names)
        book = Book("A Book", "An Author", f"sha256:{hashlib.sha256(TEXT).hexdigest()}", urls)
        monkeypatch.setitem(CATALOGUE, "a_book", book)

    return offer


def cached() -> dict[str, bytes]:
    """Return the files in the user's cache by name."""
    return {path.name: path.read_bytes() for path in download.cache_folder().glob("*")}


@pytest.mark.parametrize("mirror", GOOD)
def test_a_book_is_downloaded_once(mirrors: Mirrors, offered: Offered, mirror: str) -> None:
    offered(mirror, "good")
    found = find_corpus("a_book", ["/nowhere"])
    assert (found.name, found.title, found.source, found.characters) == ("a_book", "A Book", "a_book", CHARACTERS)
    asked = list(mirrors.asked)
    assert asked in ([mirror], ["redirects", "good"])
    assert find_corpus("a_book", ["/nowhere"]) == found
    assert mirrors.asked == asked  # the second time, the cache is used
    assert cached() == {"a_book.txt": TEXT}


@pytest.mark.parametrize("mirror", BAD)
def test_a_bad_mirror(mirrors: Mirrors, offered: Offered, mirror: str) -> None:
    """A bad mirror costs at most the time and bytes of a book and leaves no file. The next mirror is then used."""
    offered(mirror, mirror)
    began = time.monotonic()
    with pytest.raises(SettingError, match=r"^data\.corpus=a_book: [^\n]*$"):
        find_corpus("a_book", ["/nowhere"])
    assert time.monotonic() - began < download.DEADLINE + 1
    assert mirrors.sent < 3 * download.MAX_BYTES  # some of it is in socket buffers
    assert cached() == {}
    offered(mirror, "good")
    assert find_corpus("a_book", []).characters == CHARACTERS


def test_a_damaged_file_in_the_cache(offered: Offered) -> None:
    """A damaged file is downloaded again."""
    download.cache_folder().mkdir(parents=True)
    (download.cache_folder() / "a_book.txt").write_bytes(TEXT[:-1])
    offered("not_found")
    with pytest.raises(SettingError, match=r"^data\.corpus=a_book: "):
        find_corpus("a_book", [])
    offered("good")
    assert find_corpus("a_book", []).characters == CHARACTERS
    assert cached() == {"a_book.txt": TEXT}


def test_eight_downloads_at_once(offered: Offered) -> None:
    offered("good")
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: find_corpus("a_book", []).characters, range(8)))
    assert found == [CHARACTERS] * 8
    assert cached() == {"a_book.txt": TEXT}

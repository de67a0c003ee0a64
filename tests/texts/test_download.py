"""Downloads from mirrors that do what they should, and from others. The server is on this machine."""

import hashlib
import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from timemachine.corpus import find_corpus
from timemachine.errors import SettingError
from timemachine.texts import download
from timemachine.texts.catalogue import CATALOGUE, Book

TEXT = b"The Time Traveller was expounding a recondite matter to us.\n" * 500
CHARACTERS = re.sub("[^A-Za-z]+", " ", TEXT.decode()).lower().encode()  # section 9.2.1 of the book
Offered = Callable[..., None]


def edition(*urls: str) -> Book:
    return Book("A Book", "An Author", f"sha256:{hashlib.sha256(TEXT).hexdigest()}", urls)


class Mirrors(http.server.ThreadingHTTPServer):
    """A server whose `/good` sends the book, and whose other paths do what their names say."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Mirror)
        self.asked: list[str] = []
        self.closing = threading.Event()

    def urls(self, *names: str) -> tuple[str, ...]:
        return tuple(f"http://127.0.0.1:{self.server_port}/{name}" for name in names)


class Mirror(http.server.BaseHTTPRequestHandler):
    server: Mirrors

    def do_GET(self) -> None:
        name = self.path.removeprefix("/")
        self.server.asked.append(name)
        with suppress(OSError):  # whoever asked has gone
            (GOOD | BAD)[name](self)

    def log_message(self, *arguments: object) -> None:
        pass


def _send(mirror: Mirror, *parts: bytes, length: int | None = None, pause: float = 0) -> None:
    mirror.send_response(200)
    mirror.send_header("Content-Length", str(sum(map(len, parts)) if length is None else length))
    mirror.end_headers()
    for part in parts:
        mirror.wfile.write(part)
        mirror.server.closing.wait(pause)


def _redirect(mirror: Mirror, to: str) -> None:
    mirror.send_response(302)
    mirror.send_header("Location", to)
    mirror.end_headers()


GOOD: dict[str, Callable[[Mirror], object]] = {
    "good": lambda mirror: _send(mirror, TEXT),
    "slow": lambda mirror: _send(mirror, TEXT[:10_000], TEXT[10_000:], pause=0.05),
    "redirects": lambda mirror: _redirect(mirror, "/good"),
}
BAD: dict[str, Callable[[Mirror], object]] = {
    "wrong": lambda mirror: _send(mirror, TEXT.swapcase()),
    "half": lambda mirror: _send(mirror, TEXT[: len(TEXT) // 2], length=len(TEXT)),
    "not_found": lambda mirror: mirror.send_error(404),
    "hangs_up": lambda mirror: None,
    "never_answers": lambda mirror: mirror.server.closing.wait(),
    "stalls": lambda mirror: _send(mirror, TEXT[:100], length=len(TEXT), pause=10),
    "redirects_to_a_file": lambda mirror: _redirect(mirror, "file:///etc/hostname"),
    "no_http": lambda mirror: mirror.wfile.write(b"220 mail.example.org ESMTP\r\n"),
}


@pytest.fixture
def offered(mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch) -> Offered:
    """Put a book into the catalogue that mirrors of these names send."""
    return lambda *names: monkeypatch.setitem(CATALOGUE, "a_book", edition(*mirrors.urls(*names)))


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirrors]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "ANSWERS_WITHIN", 1.0)
    with Mirrors() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield server
        server.closing.set()
        server.shutdown()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "home/cache/timemachine"


def files(folder: Path) -> dict[str, bytes]:
    """By name, but for the locks."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


@pytest.mark.parametrize("mirror", GOOD)
def test_a_book_is_downloaded_once(mirrors: Mirrors, offered: Offered, cache: Path, mirror: str) -> None:
    offered(mirror, "good")
    found = find_corpus("a_book", ["/nowhere"])
    assert (found.name, found.title, found.source, found.characters) == ("a_book", "A Book", "a_book", CHARACTERS)
    asked = list(mirrors.asked)
    assert asked in ([mirror], ["redirects", "good"])
    assert find_corpus("a_book", ["/nowhere"]) == found
    assert mirrors.asked == asked  # the second time it was in the cache
    assert files(cache) == {"a_book.txt": TEXT}


@pytest.mark.parametrize("mirror", BAD)
def test_a_mirror_that_fails_is_passed_over_and_leaves_nothing(offered: Offered, cache: Path, mirror: str) -> None:
    offered(mirror)
    with pytest.raises(SettingError, match=r"^data\.corpus=a_book: not found and not downloaded \(127\.0\.0\.1:\d+: "):
        find_corpus("a_book", ["/nowhere"])
    assert files(cache) == {}
    offered(mirror, "good")
    assert find_corpus("a_book", []).characters == CHARACTERS


def test_a_spoilt_file_in_the_cache_is_fetched_again_and_never_used(offered: Offered, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "a_book.txt").write_bytes(TEXT[:-1])
    offered("not_found")
    with pytest.raises(SettingError, match="not downloaded"):
        find_corpus("a_book", [])
    offered("good")
    assert find_corpus("a_book", []).characters == CHARACTERS
    assert files(cache) == {"a_book.txt": TEXT}


def test_eight_processes_that_want_a_book_at_once_download_it_once(mirrors: Mirrors, cache: Path) -> None:
    """Each says that it is there, and asks when all are: no two of them are apart by the start of Python."""
    fetch = f"""
from timemachine import corpus
from timemachine.texts import download
from timemachine.texts.catalogue import Book
corpus.CATALOGUE["a_book"] = {edition(*mirrors.urls("slow"))!r}
print(flush=True)
input()
print(corpus.find_corpus("a_book", []).sha256)
"""
    command, pipe = [sys.executable, "-c", fetch], subprocess.PIPE
    eight = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(8)]
    for process in eight:
        assert process.stdout is not None
        process.stdout.readline()
    for process in eight:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate()[0].strip() for process in eight] == [hashlib.sha256(TEXT).hexdigest()] * 8
    assert mirrors.asked == ["slow"]
    assert files(cache) == {"a_book.txt": TEXT}

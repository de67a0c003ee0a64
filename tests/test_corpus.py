import contextlib
import gc
import hashlib
import http.server
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import example, given
from hypothesis import strategies as st

from timemachine import corpus
from timemachine.config import REPOSITORY, SettingError
from timemachine.corpus import CATALOGUE, Book, Corpus, find_corpus, normalise, without_gutenberg

# urllib closes its connection late where a server does not answer.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(scope="module", autouse=True)
def _no_socket_is_left_to_others() -> Iterator[None]:
    yield
    gc.collect()


LOUD = "!" * 60


def book_normalise(text: str) -> str:
    return re.sub("[^A-Za-z]+", " ", text).lower()  # section 9.2.1 of the book


def read(folder: Path, text: bytes) -> Corpus:
    path = folder / "text.txt"
    path.write_bytes(text)
    return find_corpus(str(path), [])


# --- Normalisation ---


@given(st.text())
@example("ÀÉ ß ſ K İ ﬁ Ⅷ a\u0301 Ａ")  # letters outside A-Z, some of which lower case would turn into a-z
@example("@[`{")  # the neighbours of A, Z, a and z
@example("")
def test_normalise_is_the_books(text: str) -> None:
    assert normalise(text.encode("utf-8", "surrogatepass")).decode() == book_normalise(text)


@given(st.text(st.characters(codec="latin-1")))
def test_normalise_is_the_books_in_latin_1_too(text: str) -> None:
    assert normalise(text.encode("latin-1")).decode() == book_normalise(text)


@given(st.text("aZ .\n", min_size=1, max_size=12), st.integers(-12, 12), st.sampled_from([1, 2]))
@example(" " * 12, -6, 1)
@example(" a", -1, 1)
@example("a ", -1, 1)
def test_normalise_is_the_books_across_the_borders_of_its_pieces(middle: str, shift: int, pieces: int) -> None:
    text = "b" * ((pieces << 20) + shift) + middle + "b  b"
    assert normalise(text.encode()).decode() == book_normalise(text)


def test_normalise_joins_a_run_of_spaces_longer_than_a_piece() -> None:
    assert normalise(b"a" + b" " * (3 << 20) + b"b") == b"a b"


# --- Reading ---

HEADER = b"Title: It\nProduced by somebody\n\n*** START OF THIS PROJECT GUTENBERG EBOOK IT ***\n"
FOOTER = b"*** END OF THIS PROJECT GUTENBERG EBOOK IT ***\n\nThe licence.\n"


@pytest.mark.parametrize(
    "text",
    [
        b"It has.\n",
        HEADER + b"It has.\n" + FOOTER,
        HEADER + b"It has.\n",
        b"It has.\n" + FOOTER,
        HEADER + b"It has.\nEnd of the Project Gutenberg EBook of It, by H. G.\n\n" + FOOTER,
        HEADER + b"It has.\n\n\nEnd of Project Gutenberg's It, by H. G. Wells\n" + FOOTER,
        HEADER + b"It has.\n\nEnd of the Project Gutenberg EBook of It,\nComplete, by H. G. Wells\n\n" + FOOTER,
        (HEADER + b"It has.\n" + FOOTER).replace(b"*** ", b"***"),
    ],
)
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_gutenbergs_header_and_footer_are_cut(tmp_path: Path, text: bytes, line_end: bytes) -> None:
    text = text.replace(b"\n", line_end)
    assert without_gutenberg(text).strip() == b"It has."
    assert read(tmp_path, text).characters.strip() == b"it has"


def test_what_only_resembles_gutenbergs_lines_stays() -> None:
    text = b"He said *** START OF it.\nThe end of the Project Gutenberg was near.\n** END OF it **\nIt has."
    assert without_gutenberg(text) == text


@pytest.mark.parametrize(
    "encoded",
    [
        b"It has\na caf\xc3\xa9.",
        b"It has\r\na caf\xc3\xa9.",
        b"\xef\xbb\xbfIt has\na caf\xc3\xa9.",
        b"\xef\xbb\xbf" + HEADER + b"It has\na caf\xc3\xa9." + b"\n" + FOOTER,
        b"It has\na caf\xe9.",  # Latin-1
    ],
)
def test_line_ends_byte_order_marks_and_encodings_do_not_show(tmp_path: Path, encoded: bytes) -> None:
    text = read(tmp_path, encoded)
    assert text.characters.strip() == b"it has a caf"
    assert text.replaced() == {"digits": 0, "accents": 1, "other": 1}


def test_what_normalisation_replaced_is_counted(tmp_path: Path) -> None:
    assert read(tmp_path, "It, 12 été; Ωmega! x\n".encode()).replaced() == {"digits": 2, "accents": 3, "other": 3}


def test_a_path_gives_its_name_its_hash_and_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my text.txt").write_bytes(b"It has")
    text = find_corpus("my text.txt", [])
    assert (text.name, text.source) == ("my text", str(tmp_path / "my text.txt"))
    assert text.sha256 == hashlib.sha256(b"It has").hexdigest()
    monkeypatch.chdir("/")
    assert find_corpus(text.source, []).sha256 == text.sha256


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"It\0has", "NUL"), (b"", "no letter"), (b"12 34\n", "no letter"), (b"\xef\xbb\xbf", "no letter")],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    with pytest.raises(SettingError, match=rf"^data\.corpus={re.escape(str(tmp_path))}/text\.txt: .*{why}.*; type "):
        read(tmp_path, content)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("/nowhere", "a book (time_machine, "),
        ("time_machin", "data.corpus=time_machine"),
        ("the_time_machine", "data.corpus=time_machine"),
        ("war_of_the_world", "data.corpus=war_of_the_worlds"),
        ("smaple", "data.corpus=sample"),
        ("/", "a book (time_machine, "),
    ],
)
def test_a_name_that_does_not_exist_is_answered_with_one_that_does(name: str, instead: str) -> None:
    with pytest.raises(SettingError, match=rf"^data\.corpus={name}: .*; type {re.escape(instead)}"):
        find_corpus(name, [])


# --- The sample and the catalogue ---


def test_the_sample_is_long_enough_for_the_books_run(sample: Corpus) -> None:
    assert len(sample.characters) >= 24_000
    assert set(sample.characters) == set(b" abcdefghijklmnopqrstuvwxyz")
    assert b"  " not in sample.characters
    assert (sample.name, sample.stands_in) == ("sample", False)
    shipped = REPOSITORY / "src/timemachine/assets/sample.txt"
    assert sample.sha256 == hashlib.sha256(shipped.read_bytes()).hexdigest()


def test_the_catalogue_has_the_eight_books() -> None:
    assert set(CATALOGUE) == {
        "time_machine",
        "war_of_the_worlds",
        "pride_and_prejudice",
        "hound_of_the_baskervilles",
        "the_lost_world",
        "alices_adventures_in_wonderland",
        "a_tale_of_two_cities",
        "adventures_of_huckleberry_finn",
    }
    book = CATALOGUE["time_machine"]
    assert book.hash == "sha1:090b5e7e70c295757f55df93cb0a180b9691891a"
    assert book.urls == (
        "http://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt",
        "https://raw.githubusercontent.com/Mech-Who/LearnD2L/0ada6bb530104b288476981cbe2b8812ad50ac19/Chapter8/data/timemachine.txt",
    )


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_catalogue_describes_the_novels(novels: Path, name: str) -> None:
    book, text = CATALOGUE[name], (novels / f"{name}.txt").read_bytes()
    algorithm, digest = book.hash.split(":")
    assert (len(text), hashlib.new(algorithm, text).hexdigest()) == (book.num_bytes, digest)
    found = find_corpus(name, [str(novels)])
    assert (found.name, found.title, found.source) == (name, book.title, name)


@pytest.mark.parametrize("name", CATALOGUE)
def test_nothing_of_gutenberg_is_left_in_the_novels(novels: Path, name: str) -> None:
    assert b"gutenberg" not in find_corpus(name, [str(novels)]).characters


def test_every_source_is_the_one_that_the_novels_name(novels: Path) -> None:
    sources = (novels / "SOURCES.md").read_text()
    for name, book in CATALOGUE.items():
        row = next(line for line in sources.splitlines() if line.startswith(f"| {name}.txt |"))
        found = re.search(r"\| ([\w.-]+/[\w.-]+):(\S+) @([0-9a-f]{40}) \|", row)
        assert found
        repository, path, commit = found.groups()
        assert f"https://raw.githubusercontent.com/{repository}/{commit}/{path}" in book.urls


def test_the_time_machine_has_the_books_number_of_characters(novels: Path) -> None:
    text = find_corpus("time_machine", [str(novels)])
    assert len(text.characters) == 173_428
    assert text.characters.startswith(b"the time machine by h g wells i the time traveller")
    original = (novels / "time_machine.txt").read_bytes()
    digits, other = (len(re.findall(pattern, original)) for pattern in (rb"[0-9]", rb"[^A-Za-z0-9\s]"))
    assert text.replaced() == {"digits": digits, "accents": 0, "other": other}


# --- Searching and downloading ---

TEXT = b"The Time Traveller was expounding a recondite matter to us.\n" * 500
CHARACTERS = book_normalise(TEXT.decode()).encode()


def edition(*urls: str) -> Book:
    return Book("A Book", "An Author", len(TEXT), f"sha256:{hashlib.sha256(TEXT).hexdigest()}", urls)


def test_the_first_folder_that_has_the_book_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOGUE, "a_book", edition())
    for folder in ("second", "third"):
        (tmp_path / folder).mkdir()
    (tmp_path / "second/a_book.txt").write_bytes(TEXT)
    (tmp_path / "third/a_book.txt").write_bytes(b"never read")
    found = find_corpus("a_book", [str(tmp_path / folder) for folder in ("first", "second", "third")])
    assert (found.name, found.title, found.source, found.characters) == ("a_book", "A Book", "a_book", CHARACTERS)


def test_a_relative_folder_is_seen_from_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "REPOSITORY", tmp_path / "clone")
    monkeypatch.setitem(CATALOGUE, "a_book", edition())
    (tmp_path / "clone").mkdir()
    (tmp_path / "books").mkdir()
    (tmp_path / "books/a_book.txt").write_bytes(TEXT)
    monkeypatch.chdir("/")
    assert find_corpus("a_book", ["../books"]).characters == CHARACTERS


@pytest.mark.parametrize("name", ["a_book", "time_machine"])
def test_another_edition_in_a_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(CATALOGUE, name, edition())
    path = tmp_path / f"{name}.txt"
    path.write_bytes(TEXT.replace(b"us", b"US"))
    with pytest.raises(SettingError, match=rf"^data\.corpus={name}: .* another edition .*; type (\S+)") as error:
        find_corpus(name, [str(tmp_path)])
    advice = re.search(r"type data\.corpus=(\S+)", str(error.value))
    assert advice
    assert find_corpus(advice[1], []).characters == CHARACTERS


def test_the_default_book_falls_back_to_the_sample_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sample: Corpus
) -> None:
    monkeypatch.setitem(CATALOGUE, "time_machine", edition())
    found = find_corpus("time_machine", [str(tmp_path / "books")])
    assert found == replace(sample, stands_in=True)
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(LOUD) and err.rstrip().endswith(LOUD)
    assert "SAMPLE" in err
    assert f"{tmp_path}/books/time_machine.txt" in err  # where to put the book


def test_another_book_that_cannot_be_had_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOGUE, "a_book", edition())
    where = re.escape(f"{tmp_path}/a_book.txt")
    with pytest.raises(SettingError, match=rf"^data\.corpus=a_book: not found and not downloaded .* {where}"):
        find_corpus("a_book", [str(tmp_path)])


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
        with contextlib.suppress(OSError):  # whoever asked has gone
            (GOOD | BAD).get(name, GOOD["good"])(self)

    def log_message(self, *arguments: object) -> None:
        pass


def _send(mirror: Mirror, *parts: bytes, length: int | None = None, pause: float = 0) -> None:
    mirror.send_response(200)
    mirror.send_header("Content-Length", str(sum(map(len, parts)) if length is None else length))
    mirror.end_headers()
    for part in parts:
        mirror.wfile.write(part)
        mirror.server.closing.wait(pause)


def _send_half_in_chunks(mirror: Mirror) -> None:
    mirror.protocol_version = "HTTP/1.1"
    mirror.send_response(200)
    mirror.send_header("Transfer-Encoding", "chunked")
    mirror.end_headers()
    mirror.wfile.write(b"%x\r\n" % len(TEXT) + TEXT[: len(TEXT) // 2])
    mirror.close_connection = True


def _redirect(mirror: Mirror, to: str) -> None:
    mirror.send_response(302)
    mirror.send_header("Location", to)
    mirror.end_headers()


GOOD: dict[str, Callable[[Mirror], object]] = {
    "good": lambda mirror: _send(mirror, TEXT),
    "slow": lambda mirror: _send(
        mirror, *(TEXT[start : start + 10_000] for start in range(0, len(TEXT), 10_000)), pause=0.02
    ),
    "redirects": lambda mirror: _redirect(mirror, "/good"),
}
BAD: dict[str, Callable[[Mirror], object]] = {
    "wrong": lambda mirror: _send(mirror, TEXT.swapcase()),
    "half": lambda mirror: _send(mirror, TEXT[: len(TEXT) // 2], length=len(TEXT)),
    "short": lambda mirror: _send(mirror, TEXT[: len(TEXT) // 2]),
    "ten_times_the_size": lambda mirror: _send(mirror, TEXT * 10),
    "login": lambda mirror: _send(mirror, b"<html>Who are you?</html>"),
    "none": lambda mirror: _send(mirror),
    "not_found": lambda mirror: mirror.send_error(404),
    "hangs_up": lambda mirror: None,
    "endless": lambda mirror: _send(mirror, *[TEXT] * 1000, pause=0.005),
    "never_answers": lambda mirror: mirror.server.closing.wait(5),
    "stalls": lambda mirror: _send(mirror, TEXT[:100], length=len(TEXT), pause=5),
    "trickles": lambda mirror: _send(
        mirror, *(TEXT[start : start + 1] for start in range(100)), length=len(TEXT), pause=0.02
    ),
    "half_in_chunks": _send_half_in_chunks,
    "redirects_to_a_login": lambda mirror: _redirect(mirror, "/login"),
    "redirects_for_ever": lambda mirror: _redirect(mirror, "/redirects_for_ever"),
    "redirects_to_a_file": lambda mirror: _redirect(mirror, "file:///etc/hostname"),
    "no_http": lambda mirror: mirror.wfile.write(b"220 mail.example.org ESMTP\r\n"),
}


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirrors]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(corpus, "ANSWERS_WITHIN", 0.5)
    monkeypatch.setattr(corpus, "DONE_WITHIN", 1.0)
    threads = threading.active_count()
    with Mirrors() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield server
        server.closing.set()
        server.shutdown()
    while threading.active_count() > threads:
        time.sleep(0.01)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "home/cache/timemachine"


def files(folder: Path) -> dict[str, bytes]:
    """By name, but for the locks."""
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


@pytest.mark.parametrize("mirror", GOOD)
def test_a_book_is_downloaded_once(mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, cache: Path, mirror: str) -> None:
    monkeypatch.setitem(CATALOGUE, "a_book", edition(*mirrors.urls(mirror, "good")))
    found = find_corpus("a_book", ["/nowhere"])
    assert (found.name, found.title, found.source, found.characters) == ("a_book", "A Book", "a_book", CHARACTERS)
    asked = list(mirrors.asked)
    assert asked in ([mirror], ["redirects", "good"])
    assert find_corpus("a_book", ["/nowhere"]) == found
    assert mirrors.asked == asked  # the second time it was in the cache
    assert files(cache) == {"a_book.txt": TEXT}


@pytest.mark.parametrize("mirror", BAD)
def test_a_mirror_that_fails_is_passed_over(mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, mirror: str) -> None:
    monkeypatch.setitem(CATALOGUE, "a_book", edition(*mirrors.urls(mirror, "good")))
    assert find_corpus("a_book", []).characters == CHARACTERS
    assert (mirrors.asked[0], mirrors.asked[-1]) == (mirror, "good")


@pytest.mark.parametrize("mirror", BAD)
def test_nothing_of_a_failed_download_is_kept(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, cache: Path, mirror: str
) -> None:
    monkeypatch.setitem(CATALOGUE, "a_book", edition(*mirrors.urls(mirror)))
    began = time.monotonic()
    with pytest.raises(SettingError, match=r"^data\.corpus=a_book: not found and not downloaded \(.+\); "):
        find_corpus("a_book", ["/nowhere"])
    assert time.monotonic() - began < 3  # whatever the mirror does
    assert files(cache) == {}


def test_a_mirror_that_sends_without_end_is_left_at_once(mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "DONE_WITHIN", 20.0)
    monkeypatch.setitem(CATALOGUE, "a_book", edition(*mirrors.urls("endless", "good")))
    began = time.monotonic()
    assert find_corpus("a_book", []).characters == CHARACTERS
    assert time.monotonic() - began < 3


def test_a_name_that_is_never_looked_up_is_given_up(monkeypatch: pytest.MonkeyPatch, mirrors: Mirrors) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **named: mirrors.closing.wait(5) and [])
    monkeypatch.setitem(CATALOGUE, "a_book", edition("http://mirror.example/a_book.txt"))
    began = time.monotonic()
    with pytest.raises(SettingError, match=r"mirror\.example does not answer"):
        find_corpus("a_book", ["/nowhere"])
    assert time.monotonic() - began < 3


def test_all_mirrors_of_a_book_have_given_up_within_ten_seconds() -> None:
    assert max(len(book.urls) for book in CATALOGUE.values()) * corpus.ANSWERS_WITHIN < 10


def test_search_folders_come_before_the_cache_and_the_cache_before_a_download(
    tmp_path: Path, mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setitem(CATALOGUE, "a_book", edition(*mirrors.urls("good")))
    (tmp_path / "a_book.txt").write_bytes(TEXT)
    find_corpus("a_book", [str(tmp_path)])
    assert files(cache) == {}
    cache.mkdir(parents=True)
    (tmp_path / "a_book.txt").rename(cache / "a_book.txt")
    assert find_corpus("a_book", [str(tmp_path)]).characters == CHARACTERS
    assert mirrors.asked == []


def test_a_spoilt_file_in_the_cache_is_fetched_again_and_never_used(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    cache.mkdir(parents=True)
    (cache / "a_book.txt").write_bytes(TEXT[:-1])
    monkeypatch.setitem(CATALOGUE, "a_book", edition(*mirrors.urls("not_found")))
    with pytest.raises(SettingError, match="not downloaded"):
        find_corpus("a_book", [])
    monkeypatch.setitem(CATALOGUE, "a_book", edition(*mirrors.urls("good")))
    assert find_corpus("a_book", []).characters == CHARACTERS
    assert files(cache) == {"a_book.txt": TEXT}


def test_eight_processes_that_want_a_book_at_once_download_it_once(mirrors: Mirrors, cache: Path) -> None:
    """Each says that it is there, and asks when all are: no two of them are apart by the start of Python."""
    fetch = f"""
from timemachine import corpus
from timemachine.corpus import Book
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


def test_who_waits_in_vain_for_another_fetches_the_book_itself(
    mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    cache.mkdir(parents=True)
    monkeypatch.setitem(CATALOGUE, "a_book", edition(*mirrors.urls("good")))
    began = time.monotonic()
    with FileLock(cache / ".a_book.lock"):
        assert find_corpus("a_book", []).characters == CHARACTERS
    assert time.monotonic() - began < 3
    assert files(cache) == {"a_book.txt": TEXT}


def test_without_a_network_the_default_book_is_the_sample_and_another_is_an_error(
    capsys: pytest.CaptureFixture[str], sample: Corpus
) -> None:
    assert find_corpus("time_machine", ["/nowhere"]) == replace(sample, stands_in=True)
    assert LOUD in capsys.readouterr().err
    with pytest.raises(SettingError, match=r"^data\.corpus=war_of_the_worlds: .* /nowhere/war_of_the_worlds\.txt"):
        find_corpus("war_of_the_worlds", ["/nowhere"])


def test_a_cache_that_cannot_be_written_is_like_no_network(
    tmp_path: Path, mirrors: Mirrors, monkeypatch: pytest.MonkeyPatch, sample: Corpus
) -> None:
    (tmp_path / "home/cache").write_text("a file where the folder should be")
    monkeypatch.setitem(CATALOGUE, "time_machine", edition(*mirrors.urls("good")))
    assert find_corpus("time_machine", []) == replace(sample, stands_in=True)


def test_a_file_of_a_terabyte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # takes no room
    with pytest.raises(SettingError, match=r"has 1,099,511,627,776 bytes, .*; type the path of a shorter text"):
        find_corpus(str(path), [])


@pytest.mark.skipif(not Path("/proc/kmsg").exists(), reason="it is Linux's")
def test_what_the_kernel_makes_up_is_no_text() -> None:
    """/proc/kmsg waits for what will happen."""
    with pytest.raises(SettingError, match="holds no letter from A to Z"):
        find_corpus("/proc/kmsg", [])

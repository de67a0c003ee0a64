"""Download a book of the catalogue from the first mirror that has it, into the user's cache."""

import os
import time
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from urllib.parse import urlsplit

import requests

from timemachine.errors import SettingError
from timemachine.texts import Book
from timemachine.texts.normalisation import is_edition

DEADLINE = 30.0  # seconds for a book, over all its mirrors
ANSWERS_WITHIN = 4.0  # seconds, so that two unresponsive mirrors take less than ten seconds
MAX_BYTES = 16 << 20  # of a book; the longest in the catalogue has 0.8 MB


def cache_folder() -> Path:
    """Return the folder of the user's cache for books, which may not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "timemachine"


def downloaded(name: str, book: Book, places: Iterable[Path]) -> Path:
    """Return the book's file in the user's cache; download it if missing, from the first mirror that has it.

    Raises SettingError if no mirror has it or the cache cannot be written; the message names `places` for the book.
    """
    path, problem = cache_folder() / f"{name}.txt", "not found, and the download failed"
    try:
        # Another edition of the novel would give other perplexities than the book's.
        if not (path.is_file() and is_edition(path.read_bytes(), book)):
            text = _download(book)
            problem = f"downloaded, but {path.parent} cannot be written"
            path.parent.mkdir(parents=True, exist_ok=True)
            # Written under another name, then renamed, so that several processes may download the same book.
            with TemporaryDirectory(dir=path.parent) as folder:
                Path(folder, path.name).write_bytes(text)
                Path(folder, path.name).replace(path)
    except OSError as error:
        instead = "".join(f"put the book at {place}, or " for place in places) + "use data.corpus=<path of a text>"
        raise SettingError(f"data.corpus={name}: {problem} ({error}); {instead}") from error
    return path


def _download(book: Book) -> bytes:
    """Return the book from the first mirror that sends it. Raises OSError with the reason for each if none does."""
    end, failures = time.monotonic() + DEADLINE, []
    for place, url in enumerate(book.urls):
        share = (end - time.monotonic()) / (len(book.urls) - place)  # a slow mirror leaves time for the next one
        try:
            if is_edition(text := _body(url, share), book):
                return text
            reason = "another edition"
        except OSError as error:  # requests' errors are OSErrors
            reason = type(error).__name__
        failures.append(f"{urlsplit(url).netloc}: {reason}")
    raise OSError("; ".join(failures))


def _body(url: str, seconds: float) -> bytes:
    """Return the content of a URL, truncated after about `MAX_BYTES`. Raises OSError, also after `seconds` in total.

    The timeout of requests limits each wait for the next bytes, not the total time. So a daemon thread reads, and is
    abandoned when the time is up; it does not keep the program from exiting.
    """
    body: Future[bytes] = Future()

    def read() -> None:
        try:
            body.set_result(_read(url))
        except Exception as error:  # raised again by result() below
            body.set_exception(error)

    Thread(target=read, daemon=True).start()
    return body.result(seconds)


def _read(url: str) -> bytes:
    body = bytearray()
    headers = {"Accept-Encoding": "identity"}  # uncompressed: a few compressed bytes could become gigabytes
    with requests.get(url, stream=True, timeout=ANSWERS_WITHIN, headers=headers) as response:
        response.raise_for_status()
        for part in response.iter_content(1 << 16):
            body += part
            if len(body) > MAX_BYTES:  # not a book: the checksum will differ
                break
    return bytes(body)

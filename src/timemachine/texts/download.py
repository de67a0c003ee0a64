"""A book of the catalogue from the first mirror that has it, in bounded time."""

import threading
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from timemachine.texts.catalogue import Book

# Seconds. Two mirrors that do not answer must not take longer than ten in all; a slow line may take a minute.
ANSWERS_WITHIN = 4.0
DONE_WITHIN = 60.0


def cache() -> Path:
    """Return the folder of the user's cache for books; it need not exist."""
    import pooch

    return Path(pooch.os_cache("timemachine"))


def downloaded(name: str, book: Book) -> Path:
    """The book's file in the user's cache, fetched from the first mirror that has it. Raises OSError.

    One process fetches, others that want the book meanwhile wait for it, as long as a download may take.
    """
    import pooch
    from filelock import FileLock, Timeout

    def fetch(url: str, file: str, _: object) -> None:
        Path(file).write_bytes(_fetched(url, book.num_bytes))

    pooch.get_logger().setLevel("WARNING")
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f".{name}.lock", DONE_WITHIN)
    with suppress(Timeout):
        lock.acquire()
    failures = []
    try:
        for url in book.urls:
            try:
                return Path(pooch.retrieve(url, book.hash, fname=f"{name}.txt", path=folder, downloader=fetch))
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

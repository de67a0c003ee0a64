"""A book of the catalogue from the first mirror that has it."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pooch
from filelock import FileLock, Timeout

from timemachine.errors import SettingError
from timemachine.texts import Book

ANSWERS_WITHIN = 4.0  # seconds; two mirrors that do not answer take less than ten
WAITS = 60.0  # seconds for another process that downloads the same book


def cache() -> Path:
    """Return the folder of the user's cache for books; it need not exist."""
    return Path(pooch.os_cache("timemachine"))


def downloaded(name: str, book: Book, places: Iterable[Path]) -> Path:
    """Return the book's file in the user's cache, fetched from the first mirror that has it.

    Raises SettingError if no mirror has it or the cache cannot be written; it names the `places` where the book may be.
    """
    try:
        return _fetched(name, book)
    except OSError as error:
        instead = "".join(f"put the book at {place}, or " for place in places) + "type data.corpus=<path of a text>"
        why = f"not found and not downloaded ({error})"
        raise SettingError(f"data.corpus={name}: {why}; {instead}") from error


def _fetched(name: str, book: Book) -> Path:
    """Fetch the book unless it is there. One process fetches; others that want the book meanwhile wait for it."""
    pooch.get_logger().setLevel("WARNING")
    folder, failures = cache(), list[str]()
    folder.mkdir(parents=True, exist_ok=True)
    fetch = pooch.HTTPDownloader(timeout=ANSWERS_WITHIN)
    lock = FileLock(folder / f".{name}.lock", WAITS)
    with suppress(Timeout):
        lock.acquire()
    try:
        for url in book.urls:
            try:
                return Path(pooch.retrieve(url, book.hash, fname=f"{name}.txt", path=folder, downloader=fetch))
            except (OSError, ValueError) as error:  # requests' errors are OSErrors; a plain ValueError: the checksum
                reason = "another edition" if type(error) is ValueError else type(error).__name__
                failures.append(f"{urlsplit(url).netloc}: {reason}")
    finally:
        lock.release()
    raise OSError("; ".join(failures))

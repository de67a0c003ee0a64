"""Download a book of the catalogue into the user's cache, with pooch."""

import os
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from timemachine.errors import SettingError
from timemachine.texts import Book
from timemachine.texts.normalisation import is_edition

TIMEOUT = 4.0  # seconds, to connect and between two parts of an answer


def cache_folder() -> Path:
    """Return the folder of the user's cache for books, which may not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "timemachine"


def downloaded(name: str, book: Book, places: Iterable[Path]) -> Path:
    """Return the book's file in the user's cache; download it if missing, from the first URL that has this edition.

    Raises SettingError if the download fails or the cache cannot be written; the message names `places` for the book.
    """
    path, failures = cache_folder() / f"{name}.txt", []
    if path.is_file() and is_edition(path.read_bytes(), book):
        return path
    import pooch  # deferred: rarely needed

    downloader = pooch.HTTPDownloader(timeout=TIMEOUT)
    for url in book.urls:
        try:
            return Path(pooch.retrieve(url, book.hash, path.name, path.parent, downloader=downloader))
        except (OSError, ValueError) as error:  # ValueError: another edition; errors of requests are OSErrors
            failures.append(f"{urlsplit(url).netloc}: {type(error).__name__}")
    instead = "".join(f"put the book at {place}, or " for place in places) + "use data.corpus=<path of a text>"
    problem = f"not found, and the download to {path.parent} failed ({'; '.join(failures)})"
    raise SettingError(f"data.corpus={name}: {problem}; {instead}")

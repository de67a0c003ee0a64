"""Files: written whole or not at all, whenever the program or the machine stops."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_whole(path: Path, content: bytes) -> None:
    """Write a temporary file, flush it to the disk, and rename it. Raises OSError; then the old content stays.

    In the same folder, because a rename replaces a file in one step only within a file system. A link in place of the
    temporary file is removed, not followed.
    """
    beside = path.with_name(f"{path.name}.part")
    try:
        beside.unlink(missing_ok=True)
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        if error.filename is not None:
            error.filename = str(path)  # by which a user knows it
        beside.unlink(missing_ok=True)  # on a full disk it would take the room of the next file
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_figure(path: Path, figure: "Figure") -> None:
    """Write a figure as PNG, whole or not at all. Raises OSError."""
    png = io.BytesIO()
    figure.savefig(png, format="png")
    write_whole(path, png.getvalue())


_start: str | None = None  # from where paths are shown; None: from the working directory


@contextmanager
def shown_from(folder: str) -> Iterator[None]:
    """Show paths as seen from a folder, such as the one where the command was typed, in any working directory."""
    global _start
    before, _start = _start, folder
    try:
        yield
    finally:
        _start = before


def shown(path: Path | str) -> str:
    """Return the path as a user types it: relative."""
    return os.path.relpath(path, _start)


def link(path: Path) -> str:
    """Return the path to print; on a terminal a link to the file (OSC 8)."""
    uri = path.resolve().as_uri()
    return f"\x1b]8;;{uri}\x1b\\{shown(path)}\x1b]8;;\x1b\\" if sys.stdout.isatty() else shown(path)


def cannot_write(folder: Path | str, error: BaseException) -> bool:
    """Return whether an error says that a folder, a file in it or its disk cannot be written."""
    if not isinstance(error, OSError):
        return False
    if not isinstance(error.filename, str | bytes):  # `write` names no file
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
    path, place = (Path(os.path.abspath(os.fsdecode(it))) for it in (error.filename, folder))  # noqa: PTH100 (no `..`)
    return path.is_relative_to(place) or place.is_relative_to(path)  # what lies above it could not be made

"""Write files atomically, even if the program or the machine stops; print paths; recognise failed writes."""

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
    """Write a file whole or not at all. Raises OSError; then the old content stays.

    The content is flushed to a temporary file in the same folder, because a rename is atomic only within a file system.
    A link with the name of the temporary file is removed, not followed.
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
            error.filename = str(path)  # the name that a user knows
        beside.unlink(missing_ok=True)  # it would take space on a full disk
        raise
    folder = os.open(path.parent, os.O_RDONLY)  # flushed as well, or a crash may undo the rename
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_figure(path: Path, figure: "Figure") -> None:
    """Write a figure as PNG, whole or not at all. Raises OSError."""
    png = io.BytesIO()
    figure.savefig(png, format="png")
    write_whole(path, png.getvalue())


UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)  # errors of a disk
_start: str | None = None  # the folder that shown paths are relative to; None: the working directory


@contextmanager
def shown_from(folder: str) -> Iterator[None]:
    """Show paths relative to a folder, such as the one where the command was typed, in any working directory."""
    global _start
    before, _start = _start, folder
    try:
        yield
    finally:
        _start = before


def relative_path(path: Path | str) -> str:
    """Return the path as a user would type it, relative to the folder of `shown_from`."""
    return os.path.relpath(path, _start)


def link(path: Path) -> str:
    """Return the path for printing; on a terminal, as a link to the file (escape sequence OSC 8)."""
    uri = path.resolve().as_uri()
    return f"\x1b]8;;{uri}\x1b\\{relative_path(path)}\x1b]8;;\x1b\\" if sys.stdout.isatty() else relative_path(path)


def cannot_write(folder: Path | str, error: BaseException) -> bool:
    """Return whether the error is that a folder, a file in it or its disk cannot be written.

    Other errors with files in the folder, such as a missing one, may be mistakes in a user's callback.
    """
    if not isinstance(error, OSError):
        return False
    if not isinstance(error.filename, str | bytes):  # an error of `write` has no file name
        return error.errno in UNWRITABLE
    path, place = (Path(os.path.abspath(os.fsdecode(it))) for it in (error.filename, folder))  # noqa: PTH100 (no `..`)
    if place.is_relative_to(path):  # the folder, or a parent of it, could not be created
        return True
    return path.is_relative_to(place) and error.errno in (*UNWRITABLE, errno.EACCES, errno.EPERM, errno.ENOTDIR)

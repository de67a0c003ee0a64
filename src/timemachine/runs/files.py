"""Files: written whole or not at all, whenever the program or the machine stops; read as if strangers had sent them."""

import errno
import io
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_whole(path: Path, content: bytes) -> None:
    """Write beside, flush to the disk, then put in place. Raises OSError, such as on a full disk: what was there stays.

    In the same folder, because a rename replaces a file in one step only within a file system. (Lightning and fsspec
    write into the system's temporary folder and then move, which may copy.)
    """
    beside = path.with_name(f"{path.name}.part")
    try:
        beside.unlink(missing_ok=True)  # of a run that was killed; or a link, which would be followed
        with beside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        if error.filename is not None:
            error.filename = str(path)  # by which a user knows it
        beside.unlink(missing_ok=True)  # on a full disk it would take the room of what has to be said
        raise
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # which `write` raises, and names no file


def cannot_write(folder: Path | str, error: BaseException) -> bool:
    """Return whether an error says that a folder, a file in it or its disk cannot be written."""
    if not isinstance(error, OSError):
        return False
    if not isinstance(error.filename, str | bytes):
        return error.errno in _OF_THE_DISK
    path, place = Path(os.fsdecode(error.filename)).absolute(), Path(folder).absolute()
    return path.is_relative_to(place) or place.is_relative_to(path)  # what lies above it could not be made


def write_figure(path: Path, figure: "Figure") -> None:
    """Write a figure as PNG, whole or not at all. Raises OSError."""
    png = io.BytesIO()
    figure.savefig(png, format="png")
    write_whole(path, png.getvalue())


def shown(path: Path | str) -> str:
    """Return the path as a user types it here: relative, or whole if it lies on another drive of Windows."""
    try:
        return os.path.relpath(path)
    except ValueError:
        return str(Path(path).absolute())


def link_or_pipe(folder: Path) -> Path | None:
    """The first thing in the folder that would lead what is written there elsewhere, but for W&B's own links."""
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in sorted(folders + files)):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                return path
        folders[:] = [name for name in folders if name != "wandb"]
    return None


def read_json(path: Path) -> Any:
    """Raises OSError or ValueError."""
    try:
        return json.loads(_text(path, 1 << 26))
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply") from error


def read_yaml(path: Path) -> Any:
    """Plain values; an alias is the same object as what it names, and not a copy. Raises OSError or ValueError."""
    try:
        return yaml.safe_load(_text(path, 1 << 18))
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read as YAML") from error


def _text(path: Path, most: int) -> str:
    """Of a file of at most so many bytes; to open a pipe would be to wait for its writer."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no file")
    if path.stat().st_size > most:
        raise ValueError(f"{path} is too large")
    return path.read_text(encoding="utf-8")

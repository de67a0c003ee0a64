"""A file is written whole or not at all, whenever the program or the machine stops."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write beside, flush to the disk, then put in place. Raises OSError, such as on a full disk: what was there stays.

    In the same folder, because a rename replaces a file in one step only within a file system. (Lightning and fsspec
    write into the system's temporary folder and then move, which may copy.)
    """
    beside = path.with_name(f"{path.name}.part")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)  # on a full disk it would take the room of what has to be said
        raise
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

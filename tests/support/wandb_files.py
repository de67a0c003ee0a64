"""Read the files that a run leaves for `wandb sync`: W&B's records in files with the log format of LevelDB.

The format is that of wandb 0.31.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

Record: Any = wandb_internal_pb2.Record  # type: ignore[attr-defined]  # a generated name
HEADER, BLOCK = 7, 2**15  # bytes of the file's header, and of a block
WHOLE, LAST = 1, 4  # parts of a record


@dataclass
class OfflineRun:
    """A session of a run: what W&B gets of it."""

    about: Any = None  # with `run_id`, `project`, `entity`, `run_group` and `tags`
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None


def records(file: Path) -> Iterator[Any]:
    """Yield the records. One that does not fit into a block is divided."""
    content, place, data = file.read_bytes(), HEADER, b""
    while place < len(content):
        if (left := BLOCK - place % BLOCK) < HEADER:
            place += left
            continue
        _, length, part = struct.unpack("<IHB", content[place : place + HEADER])  # checksum, length, part
        data += content[place + HEADER : place + HEADER + length]
        place += HEADER + length
        if part in (WHOLE, LAST):
            yield Record.FromString(data)
            data = b""


def offline_runs(folder: Path) -> list[OfflineRun]:
    """Return the sessions of a run, by its folder, in their order."""
    sessions = []
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        session = OfflineRun()
        for record in records(file):
            session.about = record.run if record.HasField("run") else session.about
            for name, value in (values(record.run.config.update) | values(record.config.update)).items():
                known = session.config.get(name)  # W&B merges dicts
                session.config[name] = known | value if isinstance(known, dict) else value
            session.history += [values(record.history.item)] if record.HasField("history") else []
            session.summary |= values(record.summary.update)
            session.exit_code = record.exit.exit_code if record.HasField("exit") else session.exit_code
        sessions.append(session)
    return sessions


def values(items: Any) -> dict[str, Any]:
    """Return the values by their names; values of a nested name have it joined by dots."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}

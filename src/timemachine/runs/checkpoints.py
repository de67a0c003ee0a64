"""Models on disk: written whole or not at all, read without executing anything.

A checkpoint (`.ckpt`) is torch's format and has all that a run needs to go on; a `.safetensors` file has the weights,
the vocabulary and the settings. A damaged byte in either is found: torch does not look at the checksums of its own
files, and with a bit flipped gives other weights.
"""

import hashlib
import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from safetensors import safe_open
from torch import Tensor

from timemachine.runs.files import write_whole


class Refused(ValueError):
    """A file that is damaged, or not one of this program; the message says which."""


class WholeCheckpoints(TorchCheckpointIO):
    """How Lightning writes and reads checkpoints here."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write the checkpoint whole: whatever stops the program, one that loads stays. Raises OSError."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(Path(path), content.getvalue())

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:
        """Read it as `read_checkpoint` does: never with code."""
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint of this program whose checksums are right. Raises Refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            marked = [entry.filename for entry in archive.infolist() if entry.external_attr]  # torch reads no folder
        with warnings.catch_warnings(action="ignore"):  # of pickles, which are refused in any case
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes raise anything
        raise Refused(f"is damaged, or not a checkpoint: {error}") from error
    if damaged is not None or marked:
        raise Refused(f"is damaged: the checksum or the attributes of {damaged or marked[0]} are wrong")
    if not isinstance(checkpoint, dict) or not {"state_dict", "hyper_parameters", "TimeMachine"} <= checkpoint.keys():
        raise Refused("is not a checkpoint of this program")
    return checkpoint


def write_safetensors(path: Path, weights: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write the weights, and in the header what is known of them, as JSON, with the SHA-256 of both. Raises OSError."""
    weights = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    header = {name: json.dumps(value) for name, value in about.items()}
    write_whole(path, safetensors.torch.save(weights, header | {"sha256": _digest(header, weights)}))


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return weights and header as `write_safetensors` wrote them. Raises Refused."""
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is not a dict)
            header = dict(file.metadata() or {})
        digest = header.pop("sha256", None)
        about = {name: json.loads(value) for name, value in header.items()}
    except Exception as error:  # damaged bytes raise anything
        raise Refused(f"is damaged, or not exported by this program: {error}") from error
    if digest != _digest(header, weights):
        raise Refused("is damaged, or not exported by this program: its SHA-256 is another")
    return weights, about


def _digest(header: dict[str, str], weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

"""Models on disk: written whole or not at all, read as if a stranger had sent them.

A checkpoint (`.ckpt`) is torch's format and has all that a run needs to go on; a `.safetensors` file has the weights,
the vocabulary and the settings. Reading executes nothing, and notices a damaged byte in either. (`torch.load` does not
look at the checksums in its own files: with a bit flipped it gives other weights.)
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

FORMAT = 1  # of the checkpoints


class Refused(ValueError):
    """A file that is no checkpoint of this program, is damaged, or has another format; the message says which."""


class WholeCheckpoints(TorchCheckpointIO):
    """How Lightning writes and reads checkpoints here."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Whatever stops the program, a checkpoint that loads stays. Raises OSError."""
        buffer = io.BytesIO()
        torch.save({"format": FORMAT} | checkpoint, buffer)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(Path(path), buffer.getvalue())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read it as `read_checkpoint` does: never with code."""
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of this format whose checksums are right. Raises Refused or OSError."""
    try:
        verified = io.BytesIO()  # what torch reads: its own reader takes other bytes than zipfile has checked
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(verified, "w") as copy:
            for entry in archive.infolist():
                if entry.compress_type != zipfile.ZIP_STORED:
                    raise Refused("is compressed")  # torch's are not; it might unpack to any size
                copy.writestr(entry.filename, archive.read(entry))
        verified.seek(0)
        with warnings.catch_warnings(action="ignore"):  # of pickles, which are refused in any case
            checkpoint = torch.load(verified, map_location="cpu", weights_only=True)
    except (OSError, Refused):
        raise
    except Exception as error:  # damaged bytes raise anything
        raise Refused(f"is damaged, or no checkpoint: {error}") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise Refused("is no checkpoint of this program")
    _refuse_another_format(checkpoint)
    return checkpoint


def write_safetensors(path: Path, weights: dict[str, Tensor], about: dict[str, Any]) -> None:
    """The weights, and in the header what is known of them, as JSON, with the SHA-256 of both."""
    weights = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    header = {name: json.dumps(value) for name, value in (about | {"format": FORMAT}).items()}
    write_whole(path, safetensors.torch.save(weights, header | {"sha256": _digest(header, weights)}))


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and header as `write_safetensors` wrote them. Raises Refused or OSError."""
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dict)
            header = dict(file.metadata() or {})
        digest = header.pop("sha256", None)
        about = {name: json.loads(value) for name, value in header.items()}
    except OSError:
        raise
    except Exception as error:  # damaged bytes raise anything
        raise Refused(f"is damaged, or not exported by this program: {error}") from error
    if digest != _digest(header, weights):
        raise Refused("is damaged, or not exported by this program: its SHA-256 is another")
    _refuse_another_format(about)
    return weights, about


def _refuse_another_format(about: dict[str, Any]) -> None:
    if (found := about.get("format", 0)) != FORMAT:
        raise Refused(f"has format {found}, and this version reads {FORMAT}")


def _digest(header: dict[str, str], weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

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

from timemachine.config import Tokens
from timemachine.errors import SettingError, one_line
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.language_model import RNNLMScratch
from timemachine.runs.files import write_whole
from timemachine.runs.summaries import EXPORT, no_checkpoint_yet, run_summary
from timemachine.vocab import Vocab


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
    """Return a checkpoint of this program whose checksums are right. Damaged bytes raise any exception."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
        marked = [entry.filename for entry in archive.infolist() if entry.external_attr]  # torch reads no folder
    if damaged is not None or marked:
        raise ValueError(f"the checksum or the attributes of {damaged or marked[0]} are wrong")
    with warnings.catch_warnings(action="ignore"):  # of pickles, which are refused in any case
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(checkpoint, dict) or not {"state_dict", "hyper_parameters", "TimeMachine"} <= checkpoint.keys():
        raise ValueError("parts are missing")
    return checkpoint


def load_model(run: str) -> tuple[RNNLMScratch, Vocab]:
    """Return the model of a run, of a folder as its last epoch left it, ready to predict, and its vocabulary.

    `run`: its folder, one of its checkpoints, or what it exported. A folder's last checkpoint comes before its export,
    which is older if the run was resumed and killed. Raises SettingError where there is none that can be read. Nothing
    in a file is executed.
    """
    model, _, about = read_model(run, "run")
    return model.eval(), vocab_of(about)


def read_model(run: str, setting: str) -> tuple[RNNLMScratch, dict[str, Tensor], dict[str, Any]]:
    """Return the model of the run that the setting names, its weights, and what else its file says."""
    path = Path(run)
    if not (path.suffix in (".ckpt", ".safetensors") and path.is_file()):
        places = [path / "checkpoints" / "last.ckpt", path / EXPORT]
        if not (found := list(filter(Path.is_file, places))):
            run_summary(run, setting)  # raises SettingError for a folder that is not a run's
            raise SettingError(no_checkpoint_yet(run, setting))
        path = found[0]
    try:
        if path.suffix == ".safetensors":
            weights, about = _read_safetensors(path)
        else:
            checkpoint = read_checkpoint(path)
            weights, about = checkpoint["state_dict"], checkpoint | checkpoint["TimeMachine"]
        model, vocab = FusedRNNLM(**about["hyper_parameters"]), vocab_of(about)
        model.load_state_dict(weights)
        if len(vocab) != model.vocab_size or not all(weight.isfinite().all() for weight in model.parameters()):
            raise ValueError("its weights are not finite, or do not fit its vocabulary")
    except Exception as error:  # damaged bytes, or another program's file, raise anything
        reason = f"is damaged, or not a checkpoint of this program: {one_line(error, 100)}"
        raise SettingError(f"{setting}={run}: {path} {reason}; type another run") from error
    return model, weights, about


def vocab_of(about: dict[str, Any]) -> Vocab:
    """Return the vocabulary that a model's file tells of."""
    return Vocab(about["tokens"], Tokens[about["kind"]])


def export_model(path: Path, model: RNNLMScratch, vocab: Vocab, summary: dict[str, Any]) -> None:
    """Write what `load_model` reads, and any program that knows safetensors. `summary`: the run's. Raises OSError.

    The header has what is known of the weights as JSON, and the SHA-256 of both.
    """
    known = {name: summary[name] for name in ("status", "settings", "corpus", "metrics", "versions", "git")}
    of_the_text = {"tokens": vocab.idx_to_token, "kind": vocab.kind.name}
    about = {"hyper_parameters": dict(model.hparams), "summary": known, **of_the_text}
    header = {name: json.dumps(value) for name, value in about.items()}
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
    write_whole(path, safetensors.torch.save(weights, header | {"sha256": weights_digest(header, weights)}))


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return weights and header as `export_model` wrote them. Damaged bytes raise any exception."""
    with safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is not a dict)
        header = dict(file.metadata() or {})
    if header.pop("sha256", None) != weights_digest(header, weights):
        raise ValueError("its SHA-256 is another")
    return weights, {name: json.loads(value) for name, value in header.items()}


def weights_digest(header: dict[str, str], weights: dict[str, Tensor]) -> str:
    """Return the SHA-256 of weights and of what is said of them."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()

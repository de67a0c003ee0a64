"""The model of a run, read from its folder or from what it exported as if a stranger had sent it."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from timemachine.errors import SettingError, one_line
from timemachine.language_model import RNNLMScratch
from timemachine.runs.checkpoints import Refused, read_checkpoint, read_safetensors, write_safetensors
from timemachine.runs.summaries import is_checkpoint, no_checkpoint_yet, read_summary
from timemachine.vocab import Vocab


def load_model(run: str, setting: str = "run") -> tuple[RNNLMScratch, Vocab]:
    """Return the model of a run, of a folder as its last epoch left it, ready to predict, and its vocabulary.

    `run`: its folder, one of its checkpoints, or what it exported; `setting`: what a user typed it for. Raises
    SettingError where there is none that can be read. Nothing in a file is executed.
    """
    path = Path(run)
    is_export = path.is_file() and path.suffix == ".safetensors"
    is_file = is_export or is_checkpoint(path)
    if not is_file and not (path := path / "checkpoints" / "last.ckpt").is_file():
        with suppress(OSError, ValueError):
            if read_summary(Path(run))["status"] == "running":
                raise SettingError(no_checkpoint_yet(run, setting))
        instead = f"type {setting}=<the folder that train.py printed at its end>"
        raise SettingError(f"{setting}={run}: has no checkpoints/last.ckpt; {instead}")
    try:
        if is_export:
            weights, about = read_safetensors(path)
        else:
            checkpoint = read_checkpoint(path)
            weights, about = checkpoint["state_dict"], checkpoint | checkpoint["TimeMachine"]
        return model_of(weights, about)
    except Exception as error:  # what a stranger wrote raises anything
        reason = str(error) if isinstance(error, Refused) else f"is no checkpoint of this program: {error}"
        raise SettingError(f"{setting}={run}: {path} {one_line(reason, 150)}; type another run") from error


def model_of(weights: dict[str, Tensor], about: dict[str, Any]) -> tuple[RNNLMScratch, Vocab]:
    """Return the model with these weights, and its vocabulary, from its `hyper_parameters` and `tokens`.

    Raises Refused where they do not fit each other, and anything else where they are not what they should be.
    """
    size, vocab = about["hyper_parameters"]["vocab_size"], Vocab(about["tokens"])
    if not 1 < size <= 256:
        raise Refused(f"has a vocabulary of {size}")
    model = RNNLMScratch(**about["hyper_parameters"])
    model.load_state_dict(weights)
    if not all(weight.isfinite().all() for weight in model.parameters()):
        raise Refused("has weights that are not finite")
    if size != len(vocab):
        raise Refused(f"has {len(vocab)} characters and weights for {size}")
    return model.eval(), vocab


def export_model(path: Path, model: RNNLMScratch, vocab: Vocab, summary: dict[str, Any]) -> None:
    """Write what `load_model` reads, and any program that knows safetensors. `summary`: the run's. Raises OSError."""
    known = {name: summary[name] for name in ("settings", "corpus", "metrics", "versions", "git")}
    about = {"hyper_parameters": dict(model.hparams), "tokens": vocab.idx_to_token, "summary": known}
    write_safetensors(path, model.state_dict(), about)

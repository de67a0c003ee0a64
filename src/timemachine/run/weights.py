"""The weights of a run: write model.safetensors, and load the model of an export or a checkpoint.

Reading these files executes nothing that they contain: `weights_only`, safetensors, JSON.
"""

import json
from importlib import import_module
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open

from timemachine.config import Tokens
from timemachine.errors import SettingError, one_line
from timemachine.language_model import RNNLMScratch
from timemachine.run.files import relative_path, weights_in
from timemachine.run.summary import TRUSTED_CLASSES
from timemachine.vocab import Vocab

# Of the summary, in an export.
SUMMARY_ENTRIES = ("status", "settings", "corpus", "metrics", "versions", "git")


def class_name(kind: type) -> str:
    """Return the name of a class by which it is imported."""
    return f"{kind.__module__}.{kind.__qualname__}"


def unreadable(path: Path, error: Exception) -> SettingError:
    """Return the error for a damaged file, without torch's advice on how to load a pickle all the same."""
    reason = "" if isinstance(error, UnpicklingError) else f": {one_line(error, 100)}"
    return SettingError(f"{relative_path(path)}: not a run's checkpoint or export, or damaged{reason}")


def exported(model: RNNLMScratch, vocab: Vocab, summary: dict[str, Any]) -> bytes:
    """Return the content of model.safetensors."""
    entries = {name: summary[name] for name in SUMMARY_ENTRIES}
    about: dict[str, Any] = {"tokens": vocab.idx_to_token, "kind": vocab.kind.name}
    about |= {"class": class_name(type(model)), "hyper_parameters": dict(model.hparams), "summary": entries}
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
    return safetensors.torch.save(weights, {name: json.dumps(value) for name, value in about.items()})


def summary_of_export(path: Path) -> str:
    """Return the entries of summary.json, as JSON, that a model.safetensors has. Raises SettingError."""
    try:
        with safe_open(path, framework="pt") as file:
            return str(file.metadata()["summary"])
    except Exception as error:  # damaged bytes, or another program's file, raise anything
        raise unreadable(path, error) from error


def load_model(run: str | Path, model_class: type[RNNLMScratch] | None = None) -> tuple[RNNLMScratch, Vocab]:
    """Return a run's model after its last epoch, in evaluation mode, and its vocabulary.

    `run`: the run's folder, one of its checkpoints, or its model.safetensors. From a folder the newer of last.ckpt and
    model.safetensors is read: an export is older if the run was resumed and killed. `model_class`: the class of the run
    if it is not one of this project's. Raises SettingError if nothing can be read, and for another class.
    """
    # The newer file, not the export by preference: a resumed run that was killed has a newer checkpoint.
    path = Path(run)
    paths = [place for place in weights_in(path) if place.exists()] if path.is_dir() else [path]
    if not paths:
        raise SettingError(f"{run}: not a run's folder: it has neither model.safetensors nor checkpoints/last.ckpt")
    _, weights, vocab, name, arguments = max(map(_read, paths), key=lambda content: content[0])
    if model_class is None and name not in TRUSTED_CLASSES:
        rule = f"add model._target_={name} (in Python: model_class) if it is a subclass of RNNLMScratch"
        raise SettingError(f"{run}: its model is of the class {name}; {rule}")
    if model_class is not None and class_name(model_class) != name:
        raise SettingError(f"{run}: its model is of the class {name}, not {class_name(model_class)}")
    # From here on the name is a trusted one, or names a class that the caller has imported.
    module, _, attribute = name.rpartition(".")
    kind = model_class or getattr(import_module(module), attribute)
    if not issubclass(kind, RNNLMScratch):
        raise SettingError(f"{run}: {name} is not a subclass of RNNLMScratch")
    try:
        model = kind(**arguments)
        model.load_state_dict(weights)
    except (TypeError, RuntimeError) as error:
        raise SettingError(f"{run}: its weights do not fit the class {name}: {one_line(error, 200)}") from error
    return model.eval(), vocab


def _read(path: Path) -> tuple[int, dict[str, Any], Vocab, str, dict[str, Any]]:
    """Return the step, weights, vocabulary, class and arguments in a file. Raises SettingError if it is damaged."""
    try:
        content = _content(path)
        vocab = Vocab(content["tokens"], Tokens(content["kind"]))
        name, arguments = str(content["class"]), dict(content["hyper_parameters"])
        return content["step"], content["state_dict"], vocab, name, arguments
    except SettingError:
        raise
    except Exception as error:  # damaged bytes, or another program's file, raise anything
        raise unreadable(path, error) from error


def _content(path: Path) -> dict[str, Any]:
    """Return the entries of a checkpoint or an export."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            content = {name: json.loads(value) for name, value in file.metadata().items()}
            content["state_dict"] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
        return content | {"step": content["summary"]["metrics"].get("step", 0)}
    checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if "class" not in checkpoint:  # which ExactResume adds
        raise SettingError(f"{path}: does not name its class; use RNNLMScratch.load_from_checkpoint")
    states = (state for state in checkpoint.values() if isinstance(state, dict))
    of_data = next(state for state in states if {"tokens", "kind"} <= state.keys())
    return checkpoint | of_data | {"step": checkpoint["global_step"]}

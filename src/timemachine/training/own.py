"""Callbacks and loggers of a user's own: from `_target_`, a class, and its arguments, as Hydra's users write them.

`hydra.utils.instantiate` would call any function, and from Hydra 1.4 on asks for a list of the classes allowed.
"""

import inspect
import traceback
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import callbacks, loggers

from timemachine.config import Train, format_value
from timemachine.errors import SettingError, one_line
from timemachine.runs.checkpoints import WholeCheckpoints, read_checkpoint
from timemachine.runs.record import Record

# Where Lightning's are, of which kind, and one of them.
GROUPS = {
    "callbacks": (callbacks, callbacks.Callback, "EarlyStopping"),
    "logger": (loggers, loggers.Logger, "TensorBoardLogger"),
}


def own_classes(settings: Train, group: str, folder: str = "") -> Iterator[tuple[str, type, dict[str, Any]]]:
    """Yield name, class and arguments of each callback, or of each logger but W&B's, which has a schema of ours.

    A class that takes a `save_dir` or a `dirpath` is given one in the run's folder, unless another is typed. Raise
    SettingError for a class that is not there or of another kind, and for arguments that it does not take.
    """
    entries = {name: entry for name, entry in getattr(settings, group).items() if (group, name) != ("logger", "wandb")}
    for name, entry in entries.items():
        key = f"{group}.{name}"
        if not isinstance(entry, Mapping) or "_target_" not in entry:
            near = get_close_matches(name, entries.keys() - {name}, 1)
            instead = f"{group}.{near[0]}" if near else f"{key}._target_=lightning.pytorch.{group}.<a class>"
            raise SettingError(f"{key}={format_value(entry)}: names no class; type {instead}")
        found = _class(group, f"{key}._target_", str(entry["_target_"]))
        known = inspect.signature(found).parameters
        places = {"save_dir": folder, "dirpath": f"{folder}/checkpoints/{name}"}
        arguments = {place: places[place] for place in places if place in known} | _arguments(entry)
        try:
            inspect.signature(found).bind(**arguments)
        except TypeError as error:
            odd = next((argument for argument in arguments if argument not in known), "")
            near = get_close_matches(odd, known, 1) or [argument for argument in known if argument not in arguments]
            instead = f"{key}.{near[0]}=<a value>" if near else "it without"
            raise SettingError(f"{key}: {found.__name__}: {error}; type {instead}") from error
        yield name, found, arguments


def build_own(settings: Train, group: str, folder: str) -> list[Any]:
    """Return the callbacks, or the loggers, of the settings. Raise SettingError for what Lightning's classes refuse."""
    built = []
    for name, found, arguments in own_classes(settings, group, folder):
        try:
            built.append(found(**{argument: _built(value) for argument, value in arguments.items()}))
        except (MisconfigurationException, ModuleNotFoundError) as error:
            raise SettingError(f"{group}.{name}: {found.__name__}: {one_line(error)}; type another value") from error
    return built


def blamed(settings: Train, error: Exception) -> str | None:
    """Return the name of the callback whose class the error names or was raised in, if there is one."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    for name, found, _ in own_classes(settings, "callbacks"):
        if found.__module__ in modules or f"`{found.__name__}`" in str(error):
            return f"callbacks.{name}"
    return None


def _class(group: str, setting: str, target: str) -> type:
    lightnings, kind, example = GROUPS[group]
    module, _, name = target.rpartition(".")
    place = lightnings
    try:
        place = import_module(module or lightnings.__name__)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # a mistake in the user's module
    known: dict[str, type] = {}
    for each in (lightnings, place):
        classes = inspect.getmembers(each, lambda entry: isinstance(entry, type) and issubclass(entry, kind))
        known |= {f"{each.__name__}.{member}": found for member, found in classes}
    if target in known:
        return known[target]
    names = {path.rpartition(".")[2]: path for path in known}
    near = names[[*get_close_matches(name, names, 1), example][0]]
    raise SettingError(f"{setting}={target}: there is no {kind.__name__} of that name; type {setting}={near}")


def _arguments(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "_target_"}


def _built(value: Any) -> Any:
    """Return an argument; an object of the class that its `_target_` names, if it has one."""
    if not isinstance(value, Mapping) or "_target_" not in value:
        return value
    module, _, name = value["_target_"].rpartition(".")
    return getattr(import_module(module), name)(**{name: _built(it) for name, it in _arguments(value).items()})


class FinalWeights(callbacks.Callback):
    """Puts into last.ckpt what a callback before it makes of the weights at the end, as StochasticWeightAveraging does.

    Otherwise the test and model.safetensors would have other weights than the checkpoint.
    """

    def __init__(self, run: Record) -> None:
        self.run = run
        self.weights_are_new = False  # so that they have not been validated

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Ask whether the weights are such ones."""
        self.weights_are_new = checkpoint.get("changed_at_end", False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare the weights with those of the checkpoint, and write them if they differ."""
        path, weights = self.run.folder / "checkpoints" / "last.ckpt", pl_module.state_dict()
        if not path.exists():
            return
        checkpoint = read_checkpoint(path)
        before = checkpoint["state_dict"]
        self.weights_are_new = any(not torch.equal(weights[name].cpu(), before[name]) for name in before)
        trainer.strategy.barrier()  # all have read it
        if self.weights_are_new and self.run.writes:
            WholeCheckpoints().save_checkpoint(checkpoint | {"state_dict": weights, "changed_at_end": True}, path)

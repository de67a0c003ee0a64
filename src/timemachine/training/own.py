"""Callbacks and loggers of a user's own: from `_target_`, a class, and its arguments, as Hydra's users write them.

`hydra.utils.instantiate` would call any function, and from Hydra 1.4 on asks for a list of the classes allowed.
"""

import inspect
import re
import traceback
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from pkgutil import resolve_name
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import callbacks, loggers

from timemachine.config import Train, Wandb, format_value
from timemachine.errors import SettingError, one_line
from timemachine.runs.checkpoint import WholeCheckpoints, read_checkpoint
from timemachine.runs.record import Record

# Where Lightning's are, of which kind, and one of them.
GROUPS = {
    "callbacks": (callbacks, callbacks.Callback, "EarlyStopping"),
    "logger": (loggers, loggers.Logger, "TensorBoardLogger"),
}
# They train before the run's own first step.
TUNERS = (callbacks.LearningRateFinder, callbacks.BatchSizeFinder)


def own_classes(settings: Train, group: str, folder: str = "") -> Iterator[tuple[str, type, dict[str, Any]]]:
    """Yield name, class and arguments of each callback, or of each logger but W&B's, which has a schema of ours.

    A class that takes a `save_dir` or a `dirpath` is given one in the run's folder, unless another is typed. Raise
    SettingError for a class that is not there or of another kind, and for arguments that it does not take.
    """
    entries = {name: entry for name, entry in getattr(settings, group).items() if not isinstance(entry, Wandb)}
    for name, entry in entries.items():
        key = f"{group}.{name}"
        if name == "_target_":  # of a file
            instead = f"{group}.<a name>._target_=…; in a file, that name and a colon stand in the line above"
            raise SettingError(f"{key}={format_value(entry)}: has no name; type {instead}")
        if not isinstance(entry, Mapping) or "_target_" not in entry:
            near = get_close_matches(name, entries.keys() - {name}, 1)
            instead = f"{group}.{near[0]}" if near else f"{group}={name}, or {key}._target_=<a class>"
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
        if issubclass(found, TUNERS):
            instead = "type a sweep, such as -m model.lr=0.5,1,2"
            raise SettingError(f"{key}._target_={entry['_target_']}: has no place in a run; {instead}")
        start, epochs = arguments.get("swa_epoch_start"), settings.trainer.max_epochs
        if isinstance(start, int) and epochs is not None and 0 <= epochs < start:
            rule = f"is after trainer.max_epochs={epochs}, and no weights would be averaged"
            raise SettingError(f"{key}.swa_epoch_start={start}: {rule}; type {key}.swa_epoch_start={epochs}")
        yield name, found, arguments


def build_own(settings: Train, group: str, folder: str) -> list[Any]:
    """Return the callbacks, or the loggers, of the settings. Raise SettingError for what Lightning's classes refuse."""
    built = []
    for name, found, arguments in own_classes(settings, group, folder):
        try:
            built.append(found(**{argument: _built(value) for argument, value in arguments.items()}))
        except MisconfigurationException as error:
            raise SettingError(f"{group}.{name}: {found.__name__}: {one_line(error)}; type another value") from error
        except ModuleNotFoundError as error:
            instead = f"install it, or type it without {group}.{name}"
            raise SettingError(f"{group}.{name}: {found.__name__}: {one_line(error)}; {instead}") from error
    return built


def blamed(settings: Train, error: Exception) -> str | None:
    """Return what to say of an error that a callback of Lightning's raised, or that names its class; None of others."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    for name, found, arguments in own_classes(settings, "callbacks"):
        after = modules[modules.index(found.__module__) :] if found.__module__ in modules else []
        raised_it = after and all(module.split(".")[0] in ("lightning", "torch") for module in after)
        if raised_it or f"`{found.__name__}`" in str(error):
            monitor = str(arguments.get("monitor"))
            named = get_close_matches(monitor, {*re.findall("`([^`]+)`", str(error))} - {monitor}, 1)
            instead = f"type callbacks.{name}.monitor={named[0]}" if named else "type another value, or it without"
            return f"callbacks.{name}: {found.__name__}: {one_line(error)}; {instead}"
    return None


def _class(group: str, setting: str, target: str) -> type:
    lightnings, kind, example = GROUPS[group]
    module, _, name = target.rpartition(".")
    place, what = lightnings, f"names no {kind.__name__}"
    try:
        place = import_module(module or lightnings.__name__)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # a mistake in the user's module
        what = f"there is no module {error.name}, beside train.py or in PYTHONPATH"
    known: dict[str, type] = {}
    for each in (lightnings, place):
        classes = inspect.getmembers(each, lambda entry: isinstance(entry, type) and issubclass(entry, kind))
        known |= {f"{each.__name__}.{member}": found for member, found in classes}
    if target in known:
        return known[target]
    names = {path.rpartition(".")[2]: path for path in known}
    near = names[[*get_close_matches(name, names, 1), example][0]]
    raise SettingError(f"{setting}={target}: {what}; type {setting}={near}")


def _arguments(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != "_target_"}


def _built(value: Any) -> Any:
    """Return an argument; an object of the class that its `_target_` names, if it has one.

    Raise SettingError for a class that is not found.
    """
    if not isinstance(value, Mapping) or "_target_" not in value:
        return value
    try:
        found = resolve_name(str(value["_target_"]))
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingError(f"_target_={value['_target_']}: is not found ({error}); type another class") from error
    return found(**{name: _built(it) for name, it in _arguments(value).items()})


class FinalWeights(callbacks.Callback):
    """Puts into last.ckpt what a callback before it makes of the weights at the end, as StochasticWeightAveraging does.

    Otherwise the test and model.safetensors would have other weights than the checkpoint. `changed_at_end` in a
    checkpoint says that the callbacks have ended; those of a run that was killed before do so when it is resumed.
    """

    def __init__(self, run: Record, own: list[callbacks.Callback]) -> None:
        self.run, self.own = run, own
        self.weights_are_new: bool | None = None  # so that they have not been validated; None: before the end

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Ask whether the weights are such ones."""
        self.weights_are_new = checkpoint.get("changed_at_end")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin, or go on."""
        self.weights_are_new = None

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare the weights with those of the checkpoint, and write them."""
        path, weights = self.run.folder / "checkpoints" / "last.ckpt", pl_module.state_dict()
        self.weights_are_new = False
        if not path.exists():
            return
        checkpoint = read_checkpoint(path)
        before = checkpoint["state_dict"]
        self.weights_are_new = any(not torch.equal(weights[name].cpu(), before[name]) for name in before)
        trainer.strategy.barrier()  # all have read it
        if self.run.writes:
            ended = {"state_dict": weights, "changed_at_end": self.weights_are_new}
            WholeCheckpoints().save_checkpoint(checkpoint | ended, path)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """End the callbacks of a run that is resumed after its last epoch: Lightning leaves that out."""
        if self.weights_are_new is None and self.run.before:
            epochs: Any = trainer.fit_loop.epoch_progress.current
            epochs.completed = epochs.processed
            for callback in (*self.own, self):
                callback.on_train_end(trainer, pl_module)

"""Build callbacks and loggers from settings: `_target_`, the name of a class, and arguments with plain values.

`hydra.utils.instantiate` is not used, since it would call any function that an argument names.
"""

import inspect
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import callbacks, loggers

from timemachine.config import Train, format_value
from timemachine.errors import SettingError, one_line
from timemachine.run.record import Record

KINDS: dict[str, type] = {"callbacks": callbacks.Callback, "logger": loggers.Logger}
EXAMPLES = {"callbacks": "lightning.pytorch.callbacks.EarlyStopping", "logger": "lightning.pytorch.loggers.CSVLogger"}
# The first two train before the run's first step. The others validate other weights than those that train, and exchange
# them at the end of training, which Lightning does not repeat when a run resumes after its last epoch.
UNSUPPORTED = (
    callbacks.LearningRateFinder, callbacks.BatchSizeFinder, callbacks.StochasticWeightAveraging,
    callbacks.WeightAveraging,
)  # fmt: skip


def build_classes(settings: Train, group: str, run: Record) -> Iterator[Any]:
    """Yield the callbacks or the loggers of a run. `group`: `callbacks` or `logger`.

    Unless given in the settings, a parameter `save_dir` or `dirpath` of the class gets a place in the run's folder. A
    parameter `record` gets the run's record. Raises SettingError for a class that is not found or is no callback or
    logger, for arguments that it does not take or that name classes, and for what Lightning rejects.
    """
    for name, entry in getattr(settings, group).items():
        key = f"{group}.{name}"
        if not isinstance(entry, Mapping) or "_target_" not in entry:
            rule = f"expected a class and its arguments, such as {key}._target_={EXAMPLES[group]}"
            raise SettingError(f"{key}={format_value(entry)}: {rule}")
        typed = {argument: value for argument, value in entry.items() if argument != "_target_"}
        if _names_class([*typed.values()]):
            raise SettingError(f"{key}: a `_target_` within an argument is not supported; use plain values")
        found = _class(group, f"{key}._target_", str(entry["_target_"]))
        known = inspect.signature(found).parameters
        places = {"save_dir": str(run.folder), "dirpath": str(run.folder / "checkpoints" / name)}
        places |= typed | {"record": run}
        arguments = typed | {place: value for place, value in places.items() if place in known}
        yield _built(key, found, arguments)


def _names_class(value: object) -> bool:
    """Return whether nested mappings and lists contain a `_target_`."""
    if isinstance(value, Mapping):
        return "_target_" in value or _names_class([*value.values()])
    return isinstance(value, list) and any(map(_names_class, value))


def _class(group: str, setting: str, target: str) -> type:
    """Return the class with a dotted name. Raise SettingError if it is not found or is not of the group's kind."""
    module, _, name = target.rpartition(".")
    found, kind = None, KINDS[group]
    try:
        found = getattr(import_module(module.lstrip(".") or "lightning.pytorch"), name, None)
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):
            raise  # the user's module exists, but one of its imports does not
    if not (isinstance(found, type) and issubclass(found, kind)):
        rule = f"no {kind.__name__} with this name found in a module next to train.py or in PYTHONPATH"
        raise SettingError(f"{setting}={target}: {rule}; an example is {setting}={EXAMPLES[group]}")
    if issubclass(found, UNSUPPORTED):
        rule = "not supported, since the run's numbers would not be those of its saved weights; use another class"
        raise SettingError(f"{setting}={target}: {rule}")
    return found


def _built(key: str, found: type, arguments: dict[str, Any]) -> Any:
    """Return an instance. Raise SettingError for arguments that the class does not take, or that Lightning rejects."""
    try:
        inspect.signature(found).bind(**arguments)
    except TypeError as error:
        raise SettingError(f"{key}: {found.__name__}: {error}") from error
    try:
        return found(**arguments)
    except (MisconfigurationException, ModuleNotFoundError) as error:  # the latter: TensorBoard is not installed
        raise SettingError(f"{key}: {found.__name__}: {one_line(error)}") from error

"""Callbacks and loggers of a user's own: from `_target_`, a class, and its arguments, as Hydra's users write them.

`hydra.utils.instantiate` would call any function, and from Hydra 1.4 on asks for a list of the classes allowed.
"""

import inspect
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import callbacks, loggers

from timemachine.config import Train, format_value
from timemachine.errors import SettingError, one_line

# Where Lightning's are, of which kind, and one of them.
GROUPS = {
    "callbacks": (callbacks, callbacks.Callback, "EarlyStopping"),
    "logger": (loggers, loggers.Logger, "TensorBoardLogger"),
}
GIVEN = "save_dir"  # what a logger gets unless it is typed: the run's folder


def own_classes(settings: Train, group: str) -> Iterator[tuple[str, type, dict[str, Any]]]:
    """Yield name, class and arguments of each callback, or of each logger but W&B's, which has a schema of ours.

    Raise SettingError for a class that is not there or of another kind, and for arguments that do not fit it.
    """
    entries = {name: entry for name, entry in getattr(settings, group).items() if (group, name) != ("logger", "wandb")}
    for name, entry in entries.items():
        key = f"{group}.{name}"
        if not isinstance(entry, Mapping) or "_target_" not in entry:
            near = get_close_matches(name, entries.keys() - {name}, 1)
            instead = f"{group}.{near[0]}" if near else f"{key}._target_=lightning.pytorch.{group}.<a class>"
            raise SettingError(f"{key}={format_value(entry)}: names no class; type {instead}")
        found = _class(group, f"{key}._target_", str(entry["_target_"]))
        arguments = {argument: value for argument, value in entry.items() if argument != "_target_"}
        _refuse_unknown(found, key, arguments)
        yield name, found, arguments


def build_own(settings: Train, group: str, folder: str) -> list[Any]:
    """Return the callbacks, or the loggers, of the settings. Raise SettingError for what Lightning's classes refuse."""
    built = []
    for name, found, arguments in own_classes(settings, group):
        given = {GIVEN: folder} if GIVEN in inspect.signature(found).parameters else {}
        try:
            built.append(found(**given | {argument: _built(value) for argument, value in arguments.items()}))
        except (MisconfigurationException, ModuleNotFoundError) as error:
            raise SettingError(f"{group}.{name}: {found.__name__} refuses it: {one_line(error)}") from error
    return built


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


def _refuse_unknown(found: type, key: str, arguments: dict[str, Any]) -> None:
    known = inspect.signature(found).parameters
    if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in known.values()):
        for argument in arguments.keys() - known.keys():
            near = [*get_close_matches(argument, known, 1), *known][:1]
            instead = f"{key}.{near[0]}=…" if near else "it without"
            typed = f"{key}.{argument}={format_value(arguments[argument])}"
            raise SettingError(f"{typed}: {found.__name__} has no such argument; type {instead}")
    for argument in known.keys() - arguments.keys() - {GIVEN}:
        parameter = known[argument]
        is_needed = parameter.default is parameter.empty
        if is_needed and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            raise SettingError(f"{key}.{argument}: {found.__name__} needs it; type {key}.{argument}=<a value>")


def _built(value: Any) -> Any:
    """Return an argument; an object of the class that its `_target_` names, if it has one."""
    if not isinstance(value, Mapping) or "_target_" not in value:
        return value
    module, _, name = value["_target_"].rpartition(".")
    arguments = {argument: _built(of) for argument, of in value.items() if argument != "_target_"}
    return getattr(import_module(module), name)(**arguments)

"""Check the arguments of the classes in conf/ by the annotations of their parameters.

Hydra passes on any value, and Lightning and many callbacks run to the end with a value of the wrong type.
"""

import inspect
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, get_args, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from timemachine.config import format_value, require
from timemachine.errors import SettingError

PLAIN_TYPES = (bool, int, float, str)
EXTRAS = {"TensorBoardLogger": "tensorboard"}  # class -> its package, which is also the extra


def check_types(settings: Mapping[str, Any]) -> None:
    """Raise SettingError for an argument of a `_target_` in these groups that does not have the annotated type."""
    entries = {group: settings[group] for group in ("data", "model", "trainer")}
    for group in ("callbacks", "logger"):
        entries |= {f"{group}.{name}": entry for name, entry in (settings.get(group) or {}).items()}
    for name, entry in entries.items():
        if isinstance(entry, dict) and isinstance(entry.get("_target_"), str):
            package = EXTRAS.get(entry["_target_"].rpartition(".")[2])
            if package and not find_spec(package):
                raise SettingError(f"{name}: needs the package {package}; type pip install -e '.[{package}]'")
            check_arguments(entry, f"{name}.")
    from timemachine.datamodule import TimeMachine  # imports torch

    data = settings["data"].get("_target_")
    is_ours = not isinstance(kind := _imported(data), type) or issubclass(kind, TimeMachine)
    require(is_ours, "data._target_", data, "must be a subclass of timemachine.datamodule.TimeMachine")


def check_arguments(entry: Mapping[str, Any], prefix: str) -> None:
    """Raise SettingError for an argument of one `_target_`; `prefix`: of the settings' names, such as `trainer.`.

    Not checked: parameters without an annotation, or with one whose names are imported for type checkers only; and
    objects that Hydra builds. A class that is not found is left to Hydra's `instantiate`.
    """
    try:
        target = _imported(entry["_target_"])
        function = inspect.unwrap(target.__init__ if isinstance(target, type) else target)  # type: ignore[misc]
        hints, parameters = get_type_hints(function), inspect.signature(function).parameters
    except Exception:  # annotations of a user may have any mistake
        return
    for name, value in entry.items():
        is_default = name in parameters and parameters[name].default is value  # a shortcut for nearly all values
        if name in hints and not is_default and not is_valid(value, hints[name]):
            rule = inspect.formatannotation(hints[name]).replace("typing.", "").replace("NoneType", "None")
            raise SettingError(f"{prefix}{name}={format_value(value)}: must be of the type {rule}")


def _imported(target: Any) -> Any:
    """Return the class or function of a `_target_`, None if it is not found: Hydra's `instantiate` says why."""
    try:
        module, _, name = str(target).rpartition(".")
        return getattr(import_module(module), name)
    except Exception:  # a user's module may raise anything when it is imported; Ctrl-C propagates
        return None


def is_valid(value: Any, hint: Any) -> bool:
    """Return whether a value from a YAML file or the command line fits an annotation.

    A text may stand for a path or a duration, and a whole number for a real one; but "1" is no number, and 1 is not
    true. An object that Hydra builds fits unless only plain values do.
    """
    if "_target_" in str(value):
        return not {*(get_args(hint) or [hint])} <= {*PLAIN_TYPES, type(None)}
    try:
        # Not `strict=True`, which rejects a text for a Path and a list for a tuple.
        adapter = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
        converted = adapter.validate_python(value)
    except ValidationError:
        return False
    except (PydanticUserError, TypeError):  # an annotation that cannot be checked
        return True
    if not isinstance(value, PLAIN_TYPES) or (isinstance(value, str) and not isinstance(converted, PLAIN_TYPES)):
        return True
    # pydantic reads "1" as a number, 1 as true and 60 as a duration, but the class would get the value as it is.
    return type(value) is type(converted) or (type(value), type(converted)) == (int, float)

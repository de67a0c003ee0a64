"""Check the settings of a run: their values, and the arguments of the classes in conf/ by the parameters' annotations.

Hydra passes on any value, and Lightning and many callbacks run to the end with a value of the wrong type.
"""

import inspect
import math
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, get_args, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from timemachine.config import DATA, REGULARIZED, TRAINER, check, format_value, require
from timemachine.errors import SettingError
from timemachine.run.run import METRIC
from timemachine.run.summary import TRUSTED_CLASSES

PLAIN_TYPES = (bool, int, float, str)
EXTRAS = {"TensorBoardLogger": "tensorboard"}  # class -> its package, which is also the extra
# Arguments that train.py passes itself: a value in conf/ or on the command line would be ignored.
PASSED = {
    "model": {"vocab_size": "data"},
    "trainer": {"logger": "logger", "callbacks": "callbacks", "default_root_dir": "hydra.run.dir"},
}


def check_settings(settings: dict[str, Any]) -> None:
    """Check the settings of a run. Raises SettingError."""
    check_classes(settings)
    for group, names in PASSED.items():
        for name in names.keys() & settings[group].keys():
            rule = f"train.py passes this argument itself; use {names[name]}"
            raise SettingError(f"{group}.{name}={format_value(settings[group][name])}: {rule}")
    check(settings, {"seed": DATA["seed"]})
    require(settings["init_from"] != "", "init_from", "''", "must be the folder of a run, or null")
    metric = str(settings["optimized_metric"])
    require(metric not in ("epoch", "step", ""), "optimized_metric", metric, "is no metric", METRIC)
    for name, entry in (settings.get("callbacks") or {}).items():
        for argument, value in (entry or {}).items():
            is_finite = not isinstance(value, float) or math.isfinite(value)
            require(is_finite, f"callbacks.{name}.{argument}", value, "must be finite")
    numbers = {name: value for name, value in settings["trainer"].items() if isinstance(value, int | float)}
    check(numbers, TRAINER, "trainer.")  # values of other types: `check_types`
    tags = settings.get("tags", [])
    are_words = isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)
    require(are_words, "tags", tags, "must be a list of words", "[baseline,wide]")
    check_types(settings)  # last, since it imports the classes, and with them torch and Lightning


def check_classes(settings: dict[str, Any]) -> None:
    """Raise SettingError for an entry without a class, and for an argument that only model=regularized has.

    Imports nothing, so that a sweep can be rejected before its first job.
    """
    for group in ("callbacks", "logger"):
        for name, entry in (settings.get(group) or {}).items():
            has_class = not entry or (isinstance(entry, dict) and isinstance(entry.get("_target_"), str))
            rule = f"has no _target_; type it, or choose its file with {group}={name}"
            require(has_class, f"{group}.{name}", "{…}" if isinstance(entry, dict) else entry, rule)
    model = settings.get("model") or {}
    others = REGULARIZED.keys() & model.keys() if model.get("_target_") in TRUSTED_CLASSES[:2] else set()
    if name := min(others, default=None):
        require(False, f"model.{name}", model[name], f"only model=regularized has {', '.join(sorted(others))}")


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

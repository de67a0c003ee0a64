"""Check the settings of a run before anything is imported that takes seconds, such as torch.

The model and the data check their own arguments (`config`). Lightning checks the Trainer's, apart from numbers out of
range, with which it would train something else.
"""

import math
from typing import Any

from timemachine.config import DATA, REGULARIZED, TRAINER, check, format_value, require
from timemachine.errors import SettingError
from timemachine.run.run import METRIC
from timemachine.run.summary import TRUSTED_CLASSES

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
    metric = settings["optimized_metric"]
    is_name = isinstance(metric, str) and metric not in ("epoch", "step", "")
    require(is_name, "optimized_metric", metric, "must be the name of a metric", METRIC)
    for name, entry in (settings.get("callbacks") or {}).items():
        for argument, value in (entry or {}).items():
            is_finite = not isinstance(value, float) or math.isfinite(value)
            require(is_finite, f"callbacks.{name}.{argument}", value, "must be finite")
    numbers = {name: value for name, value in settings["trainer"].items() if isinstance(value, int | float)}
    check(numbers, TRAINER, "trainer.")
    tags = settings.get("tags", [])
    are_words = isinstance(tags, list) and all(isinstance(tag, str) for tag in tags)
    require(are_words, "tags", tags, "must be a list of words", "[baseline,wide]")


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

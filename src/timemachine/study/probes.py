"""The probes: measurements of a trained model that `probes=[…]` adds to summary.json.

A probe is a module of this package or of an exercise with `measure(model, data)`, which returns JSON-serialisable
numbers, lists and dicts. A probe that measures during training has `callback()`, which returns a Lightning callback.
`REQUIRES`: the values of settings that it supports, as patterns, if not all.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from timemachine.config import require
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch

PACKAGES = ("timemachine.study", "timemachine.exercises")


def load_probes(names: Sequence[str] | None, data: TimeMachine, model: Any) -> dict[str, Any]:
    """Return the module of each probe by its name.

    Raises SettingError for a name that is not a probe, and for a probe that does not support this text or cell.
    """
    names = [names] if isinstance(names, str) else names or []
    require(isinstance(names, Sequence), "probes", names, "must be a list of probes", "[stream]")
    require(isinstance(model, RNNLMScratch) or not names, "probes", [*names], "need an RNNLMScratch", "[]")
    probes = {name: _module(name) for name in names}
    for name, probe in probes.items():
        rule = "is no module of timemachine.study or timemachine.exercises that has `measure`"
        require(hasattr(probe, "measure"), "probes", [*names], f"{name} {rule}", "[stream]")
        for setting, supported in getattr(probe, "REQUIRES", {}).items():
            group, _, argument = setting.partition(".")
            value = str({"model": model, "data": data}[group].hparams.get(argument))
            is_supported = any(fnmatchcase(value, pattern) for pattern in supported)
            require(is_supported, "probes", [*names], f"{name} requires {setting}={' or '.join(supported)}")
    return probes


def _module(name: object) -> Any:
    """Return the module of this name, None if there is none."""
    places = [f"{package}.{name}" for package in PACKAGES if str(name).isidentifier()]
    return next((import_module(place) for place in places if find_spec(place)), None)

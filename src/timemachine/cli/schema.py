"""The schema of the settings as Hydra sees it: registered at import, and what Hydra composed checked against it."""

import inspect
import re
import warnings
from collections.abc import Iterator
from dataclasses import Field, fields, is_dataclass
from typing import Any, TypeVar, get_args

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from timemachine.config import (
    MISSING,
    OF_ANY_CELL,
    REPOSITORY,
    Evaluate,
    Generate,
    Model,
    Train,
    example,
    from_dict,
    to_dict,
)
from timemachine.errors import SettingError
from timemachine.kernels import FUSED_ACTIVATIONS
from timemachine.run.record import flat, is_resumed
from timemachine.weights_and_biases import LOGGER

CONF = REPOSITORY / "conf"

# From Hydra 1.4 on there is no version to be compatible with, but a list of what may be a configuration's `_target_`.
_is_asked = "execution_whitelist" in inspect.signature(hydra.main).parameters
VERSION: dict[str, Any] = {} if _is_asked else {"version_base": "1.3"}
TARGETS: dict[str, Any] = {"execution_whitelist": ["timemachine.cli.*", "hydra_plugins.*"]} if _is_asked else {}

Settings = TypeVar("Settings", Train, Evaluate, Generate)
for _schema in (Train, Evaluate, Generate):
    ConfigStore.instance().store(name=f"{_schema.__name__.lower()}_schema", node=_schema)
# An exercise's ${divide:20_000,${data.num_steps}}: a setting that follows another one through a sweep.
with warnings.catch_warnings():  # the newest OmegaConf has another name for it
    warnings.simplefilter("ignore", UserWarning)
    OmegaConf.register_new_resolver("divide", lambda number, by: int(number) // int(by), replace=True)


def checked(nested: dict[str, Any], schema: type[Settings]) -> Settings:
    """Return settings as an instance of `schema`. Raises SettingError for a broken rule.

    `nested`: what `resolved` returns, or the settings in a run's summary.json.
    """
    for key in sorted(key for key, value in flat(nested).items() if value == MISSING):
        if key == "run":
            raise SettingError("run: is missing; type run=<folder of a run>, as train.py printed it at its end")
        setting = dict(leaves(schema)).get(key)
        value = example(setting) if setting else "<another value>"
        raise SettingError(f"{key}={MISSING}: stands for a missing value in Hydra; type for example {key}={value}")
    settings = from_dict(schema, nested)
    if isinstance(settings, Train):
        if settings.probes:
            from timemachine.exercises import probes

            probes.check(settings.probes, settings.model.cell, settings.data.tokens.name)
        check_network(settings.model)
        if settings.init_from is not None and not is_resumed(nested):
            from timemachine.run.checkpoint import check_parent

            check_parent(settings.init_from, to_dict(settings.model))
        for group in ("callbacks", "logger"):
            entries = getattr(settings, group).values()
            if any(not isinstance(entry, dict) or entry.get("_target_") != LOGGER for entry in entries):
                from timemachine.run.own import own_classes  # takes seconds

                list(own_classes(settings, group))
    return settings


def check_network(network: Model) -> None:
    """Raise SettingError for a network that cannot be built."""
    default = to_dict(Model())
    of_the_cell = {name for name, value in to_dict(network).items() if value != default[name]} - OF_ANY_CELL
    is_plain = network.cell == "rnn" and of_the_cell <= {"activation"}  # which it takes
    if not is_plain or network.activation.name not in FUSED_ACTIVATIONS:
        from timemachine.kernels.language_model import FusedRNNLM  # takes seconds

        FusedRNNLM(2, **to_dict(network))


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Return the configuration as nested dicts, Enums by name, whether or not it keeps the rules."""
    return OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)  # type: ignore[return-value]


def leaves(schema: type, prefix: str = "") -> Iterator[tuple[str, Field[Any]]]:
    """Yield each setting of the schema: its dotted name and its field."""
    for setting in fields(schema):
        nested = [kind for kind in (setting.type, *get_args(setting.type)) if is_dataclass(kind)]
        if nested:
            yield from leaves(nested[0], f"{prefix}{setting.name}.")  # type: ignore[arg-type]
        else:
            yield prefix + setting.name, setting


def groups() -> list[str]:
    """Return the groups of conf/, of which a user types a choice."""
    return sorted({file.parent.name for file in CONF.glob("*/*.yaml")} - {"smoke"})


def choices(group: str) -> list[str]:
    """Return the choices of a group in conf/."""
    names = {file.stem for file in (CONF / group).glob("*.yaml")}
    return sorted(names, key=lambda name: re.sub(r"\d+", lambda digits: digits[0].zfill(3), name))

"""The schema of the settings for Hydra, which is registered when this module is imported; the groups of conf/."""

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
    REPOSITORY,
    Evaluate,
    Generate,
    Train,
)

CONF = REPOSITORY / "conf"

# Hydra 1.4 warns about `version_base`, and wants a list of the modules that a configuration's `_target_` may name.
_has_whitelist = "execution_whitelist" in inspect.signature(hydra.main).parameters
VERSION: dict[str, Any] = {} if _has_whitelist else {"version_base": "1.3"}
TARGETS: dict[str, Any] = {"execution_whitelist": ["timemachine.cli.*", "hydra_plugins.*"]} if _has_whitelist else {}

Settings = TypeVar("Settings", Train, Evaluate, Generate)
for _schema in (Train, Evaluate, Generate):
    ConfigStore.instance().store(name=f"{_schema.__name__.lower()}_schema", node=_schema)
# For ${divide:20_000,${data.num_steps}} in an exercise, where one setting depends on another that the sweep varies.
with warnings.catch_warnings():  # newer versions of OmegaConf have renamed the function
    warnings.simplefilter("ignore", UserWarning)
    OmegaConf.register_new_resolver("divide", lambda number, by: int(number) // int(by), replace=True)


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Return the configuration as nested dicts, with Enums by name. Raises MissingMandatoryValue for `???`."""
    return OmegaConf.to_container(cfg, resolve=True, enum_to_str=True, throw_on_missing=True)  # type: ignore[return-value]


def leaves(schema: type, prefix: str = "") -> Iterator[tuple[str, Field[Any]]]:
    """Yield each setting of the schema: its dotted name and its field."""
    for setting in fields(schema):
        nested = [kind for kind in (setting.type, *get_args(setting.type)) if is_dataclass(kind)]
        if nested:
            yield from leaves(nested[0], f"{prefix}{setting.name}.")  # type: ignore[arg-type]
        else:
            yield prefix + setting.name, setting


def groups() -> list[str]:
    """Return the groups of conf/, from which a user selects choices."""
    return sorted({file.parent.name for file in CONF.glob("*/*.yaml")} - {"smoke"})


def choices(group: str) -> list[str]:
    """Return the choices of a group in conf/."""
    names = {file.stem for file in (CONF / group).glob("*.yaml")}
    return sorted(names, key=lambda name: re.sub(r"\d+", lambda digits: digits[0].zfill(3), name))

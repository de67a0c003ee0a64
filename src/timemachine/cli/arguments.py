"""All arguments as Hydra reads them, or a SettingError.

Hydra would accept `+model.hidens=64`, and its advice on a misspelt name is to add that `+`. So names and choices are
looked up in the schema first, with the nearest valid one in the answer; only values are left to Hydra and OmegaConf.
"""

import os
import re
from difflib import get_close_matches
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob

from timemachine.cli.flags import MULTIRUN, hydra_flags
from timemachine.cli.quoting import quoted, unquoted_path
from timemachine.cli.resuming import with_resumed
from timemachine.cli.schema import OFF, choices, groups, leaves, nearest, no_such_choice
from timemachine.config import Evaluate, Train
from timemachine.corpus import normalise
from timemachine.errors import SettingError

SYNONYMS = {  # a common name elsewhere -> the last part of the name here
    "epochs": "max_epochs", "num_epochs": "max_epochs", "steps": "max_steps", "num_hiddens": "hiddens",
    "learning_rate": "lr", "clip": "gradient_clip_val",
}  # fmt: skip


def checked_arguments(arguments: list[str], schema: type) -> list[str]:
    """Return all arguments as Hydra reads them. Raise SettingError for an invalid one."""
    if schema is not Train and MULTIRUN & set(arguments):
        raise SettingError("-m: only train.py runs sweeps; type it without")
    arguments = sorted(arguments, key=lambda argument: argument not in MULTIRUN)  # argparse wants it first
    _check_flags(arguments, schema)
    _refuse_contradictions(arguments, schema)
    arguments = with_resumed(arguments)
    is_exercise = any(re.match(r"exercise=(?!none$)", argument) for argument in arguments)
    if is_exercise and not any(argument.startswith("hydra.mode=") for argument in arguments):
        arguments.append("hydra.mode=MULTIRUN")  # Hydra 1.4 takes no mode from a group's file
    follows_flag = [before.startswith("-") for before in ["", *arguments]]
    return [
        argument if follows and "=" not in argument else checked_argument(argument, schema)
        for argument, follows in zip(arguments, follows_flag, strict=False)
    ]


def _check_flags(arguments: list[str], schema: type) -> None:
    """Raise SettingError for a flag that Hydra does not have, or one that names another program's configuration."""
    flags, unknown = hydra_flags(arguments)
    for flag, value in (("--config-name", flags.config_name), ("--config-path", flags.config_path)):
        if value is not None:
            raise SettingError(f"{flag} {value}: a program reads its own configuration in conf/; type it without")
    if unknown:
        name, equals, value = unknown[0].lstrip("-").partition("=")
        after = [*arguments[arguments.index(unknown[0]) + 1 :], "…"][0]
        instead = _instead(name, schema, value if equals else "…" if re.search("^-|=", after) else after)
        raise SettingError(f"{unknown[0]}: there is no such flag; {instead}")


def _refuse_contradictions(arguments: list[str], schema: type) -> None:
    """Raise SettingError for two arguments of which one would be ignored, or one that goes with another."""

    def beginning(*prefixes: str) -> list[str]:
        return [argument for argument in arguments if argument.startswith(prefixes)]

    for_wandb, others = beginning("logger.wandb."), beginning("logger=csv", "logger=tensorboard")
    if for_wandb and schema is not Train and "logger=wandb" not in arguments:
        raise SettingError(f"{for_wandb[0]}: goes with logger=wandb; type that as well")
    if for_wandb and others:
        raise SettingError(f"{for_wandb[0]}: goes with logger=wandb; type it without {others[0]}")
    recipes, windows = beginning("recipe="), beginning("data=book", "data=full")
    if recipes not in ([], ["recipe=none"]) and windows:
        raise SettingError(f"{windows[0]}: a recipe has its own windows; type it without {recipes[0]}, or the reverse")
    exercises = beginning("exercise=")
    names = ",".join(exercises).replace("exercise=", "").split(",")
    if len(names) > 1 or "(" in names[0]:
        one_by_one = ", then ".join(f"exercise={name}" for name in names) if len(names) > 1 else "exercise=<its name>"
        raise SettingError(f"{' '.join(exercises)}: an exercise is a sweep by itself; type {one_by_one}")
    if "scale=smoke" in arguments and exercises in ([], ["exercise=none"]) and not beginning("resume="):
        raise SettingError("scale=smoke: makes an exercise small; type exercise=<its name> as well")


def checked_argument(argument: str, schema: type) -> str:
    """Return the argument as Hydra reads it. Raise SettingError for a name or a choice that does not exist.

    Hydra's grammar refuses most punctuation. So a prefix is normalised like the corpus and quoted, and the path of
    something that exists is quoted too. Flags, and settings of Hydra's own, are left as they are.
    """
    name, equals, value = argument.lstrip("+~").partition("=")
    if argument.startswith("-") or re.split("[@./]", name)[0] == "hydra":
        return argument
    if not equals and not argument.startswith("~"):
        raise SettingError(f"{argument}: a setting is typed as name=value; {_instead(argument, schema, '…')}")
    if (schema is Train or (schema is Evaluate and name == "logger")) and (known := choices(name)):
        for choice in _chosen(argument, value, known):
            if choice not in known:
                raise SettingError(no_such_choice(argument, name, choice, known))
    elif name not in dict(leaves(schema)):
        raise SettingError(f"{argument}: there is no setting of that name; {_instead(name, schema, value)}")
    if not argument.startswith(name):
        raise SettingError(f"{argument}: it exists; type it as {name}={value or '…'}")
    if name == "prefix":
        return f"prefix='{_letters(value)}'"
    return f"{name}={_path(value)}" if name in ("run", "resume", "data.corpus") else argument


def _chosen(argument: str, value: str, known: list[str]) -> list[str]:
    """Return the choices of a group that an argument names, of a sweep all of them: a,b or choice(a,b) or glob(*)."""
    if "(" not in value:
        return value.split(",")
    override = OverridesParser.create().parse_override(argument)
    values: Any = override.value()  # Hydra's annotation leaves out Glob
    if isinstance(values, Glob):
        return values.filter(known) or [value]
    return list(override.sweep_string_iterator()) if override.is_sweep_override() else [value]


def _letters(prefix: str) -> str:
    """Return the prefix as a model reads it. Raise SettingError if nothing is left of it."""
    letters = normalise(os.fsencode(prefix)).decode()
    if prefix and not letters.strip():
        raise SettingError(f"prefix={prefix}: has no letter from A to Z; type for example prefix='it has'")
    return letters


def _path(value: str) -> str:
    """Return a path, a name or a list of them, in quotes where Hydra could not read it otherwise."""
    path = unquoted_path(value)
    is_several = path.startswith("[") or "," in path
    is_odd = re.search(r"[^\w./-]", path, re.ASCII)
    return quoted(path) if is_odd and (os.path.exists(path) or not is_several) else path


def _instead(name: str, schema: type, value: str) -> str:
    """Return what to type instead of a name that does not exist: a similar one, or how to see them all."""
    group, dot, choice = name.partition(".")
    if dot and choice in choices(group):  # logger.wandb=false
        return f"type for example {nearest(group, value if value in OFF else choice, choices(group))}"
    names = [leaf for leaf, _ in leaves(schema)]
    by_last_part = {leaf.rpartition(".")[2]: leaf for leaf in names}
    last = name.rpartition(".")[2]
    last = SYNONYMS.get(last, last)
    near = [leaf for leaf in names if leaf == name or leaf.startswith(f"{name}.")]
    near += [by_last_part[last]] if last in by_last_part else []
    near += get_close_matches(name, groups(), 1, 0.75) if schema is Train and not dot else []
    near += [by_last_part[last] for last in get_close_matches(last, by_last_part, 1, 0.75)]
    near += get_close_matches(name, names, 1, 0.85)
    return f"type for example {near[0]}={value}" if near else "type --help to see them all"

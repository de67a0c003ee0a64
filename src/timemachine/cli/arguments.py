"""All arguments as Hydra reads them, or a SettingError.

Hydra would accept `+model.hidens=64`, and its advice on a misspelt name is to add that `+`. So names and choices are
looked up in the schema first, with the nearest valid one in the answer; only values are left to Hydra and OmegaConf.
Private: `get_args_parser`, of Hydra's, tested with Hydra 1.3.8; pyproject.toml bounds it from above.
"""

import os
import re
from argparse import Namespace
from difflib import get_close_matches
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob

from timemachine.cli.resuming import MULTIRUN, quoted, unquoted_path, with_resumed
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
    hydra_flags(arguments, schema)
    _refuse_contradictions(arguments, schema)
    arguments = with_resumed(arguments)
    is_exercise = any(argument.startswith("exercise=") and argument != "exercise=none" for argument in arguments)
    if is_exercise and not any(argument.startswith("hydra.mode=") for argument in arguments):
        arguments.append("hydra.mode=MULTIRUN")  # Hydra 1.4 takes no mode from a group's file
    return [
        argument if before.startswith("-") and "=" not in argument else checked_argument(argument, schema)
        for before, argument in zip(["", *arguments], arguments, strict=False)
    ]


def hydra_flags(arguments: list[str], schema: type) -> Namespace:
    """Return Hydra's flags, with the other arguments as `overrides`. Raise SettingError for one that does not fit."""

    def refuse(message: str) -> NoReturn:  # where Hydra would print its usage, or a traceback
        raise SettingError(f"{' '.join(arguments)}: {message}; type --hydra-help to see all flags")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    flags, unknown = parser.parse_known_args(arguments)
    if flags.resolve and not (flags.cfg or flags.help):
        refuse("--resolve goes with --cfg or --help")
    if flags.run + flags.multirun + flags.shell_completion + bool(flags.cfg) + (flags.info is not None) > 1:
        refuse("only one of --run, --multirun, --cfg, --info and --shell-completion at a time")
    for flag, value in (("--config-name", flags.config_name), ("--config-path", flags.config_path)):
        if value is not None:
            raise SettingError(f"{flag} {value}: a program reads its own configuration in conf/; type it without")
    if unknown:
        name, equals, value = unknown[0].lstrip("-").partition("=")
        after = [*arguments[arguments.index(unknown[0]) + 1 :], "…"][0]
        instead = _instead(name, schema, value if equals else "…" if re.search("^-|=", after) else after)
        raise SettingError(f"{unknown[0]}: there is no such flag; {instead}")
    return flags


def _refuse_contradictions(arguments: list[str], schema: type) -> None:
    """Raise SettingError for two arguments of which one would be ignored, or one that goes with another."""

    def first(*beginnings: str) -> str | None:
        return next((argument for argument in arguments if argument.startswith(beginnings)), None)

    for_wandb, other = first("logger.wandb."), first("logger=csv", "logger=tensorboard")
    if for_wandb and (other or (schema is not Train and "logger=wandb" not in arguments)):
        instead = f"type it without {other}" if other else "type that as well"
        raise SettingError(f"{for_wandb}: goes with logger=wandb; {instead}")
    recipe, windows = first("recipe="), first("data=book", "data=full")
    if recipe not in (None, "recipe=none") and windows:
        raise SettingError(f"{windows}: a recipe has its own windows; type it without {recipe}, or the reverse")
    exercises = ",".join(argument.partition("=")[2] for argument in arguments if argument.startswith("exercise="))
    if "," in exercises or "(" in exercises:
        instead = exercises.replace(",", ", then exercise=") if "(" not in exercises else "<its name>"
        raise SettingError(f"exercise={exercises}: an exercise is a sweep by itself; type exercise={instead}")
    if "scale=smoke" in arguments and exercises in ("", "none") and not first("resume="):
        raise SettingError("scale=smoke: makes an exercise small; type exercise=<its name> as well")


def checked_argument(argument: str, schema: type) -> str:
    """Return the argument as Hydra reads it. Raise SettingError for a name or a choice that does not exist.

    Hydra's grammar refuses most punctuation: a prefix is normalised like the corpus and quoted, and a path is quoted.
    """
    name, equals, value = argument.lstrip("+~").partition("=")
    if argument.startswith("-") or re.split("[@./]", name)[0] == "hydra":  # a flag, or a setting of Hydra's own
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
        letters = normalise(os.fsencode(value)).decode()
        if value and not letters.strip():
            raise SettingError(f"{argument}: has no letter from A to Z; type for example prefix='it has'")
        return f"prefix='{letters}'"
    if name not in ("run", "resume", "data.corpus"):
        if re.search(r"\d{300}", value):  # of which Python makes no float
            raise SettingError(f"{name}: has more than 300 digits; type fewer")
        return argument
    path = unquoted_path(value)  # or a name, or a list of them
    is_several = path.startswith("[") or "," in path
    is_odd = re.search(r"[^\w./-]", path, re.ASCII)
    return f"{name}={quoted(path) if is_odd and (os.path.exists(path) or not is_several) else path}"


def _chosen(argument: str, value: str, known: list[str]) -> list[str]:
    """Return the choices of a group that an argument names, of a sweep all of them: a,b or choice(a,b) or glob(*)."""
    if "(" not in value:
        return value.split(",")
    override = OverridesParser.create().parse_override(argument)
    values: Any = override.value()  # Hydra's annotation leaves out Glob
    if isinstance(values, Glob):
        return values.filter(known) or [value]
    return list(override.sweep_string_iterator()) if override.is_sweep_override() else [value]


def _instead(name: str, schema: type, value: str) -> str:
    """Return what to type instead of a name that does not exist: a similar one, or how to see them all."""
    group, dot, choice = name.partition(".")
    if dot and choice in choices(group):  # logger.wandb=false
        return f"type for example {nearest(group, value if value in OFF else choice, choices(group))}"
    names = [leaf for leaf, _ in leaves(schema)]
    by_last_part = {leaf.rpartition(".")[2]: leaf for leaf in names}
    last = name.rpartition(".")[2]
    near = [leaf for leaf in names if f"{leaf}.".startswith(f"{name}.")]
    near += get_close_matches(name, groups(), 1, 0.75) if schema is Train and not dot else []
    near += [by_last_part[last] for last in get_close_matches(SYNONYMS.get(last, last), by_last_part, 1, 0.75)]
    near += get_close_matches(name, names, 1, 0.85)
    return f"type for example {near[0]}={value}" if near else "type --help to see them all"

"""All arguments as Hydra reads them, or a SettingError.

Hydra would accept `+model.hidens=64`, and its advice on a misspelt name is to add that `+`. So names and choices are
looked up in the schema first, with the nearest valid one in the answer; only values are left to Hydra and OmegaConf.
Private: `get_args_parser`, of Hydra's, tested with Hydra 1.3.8; pyproject.toml bounds it from above.
"""

import os
import re
from argparse import Namespace
from collections.abc import Iterable, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn, get_args

from hydra._internal.utils import get_args_parser

from timemachine.cli.schema import CONF, choices, groups, leaves, no_such_choice
from timemachine.config import Evaluate, Train
from timemachine.errors import SettingError

MULTIRUN = {"-m", "--multirun"}
SYNONYMS = {  # a common name elsewhere -> the last part of the name here
    "epochs": "max_epochs", "num_epochs": "max_epochs", "steps": "max_steps", "num_hiddens": "hiddens",
    "learning_rate": "lr", "clip": "gradient_clip_val",
}  # fmt: skip
INSTEAD = {  # a name elsewhere -> what to type here
    "experiment": "recipe=novel, or recipe=<a file of your own in conf/recipe/>",
    "trainer.callbacks": "callbacks=early_stopping, or callbacks.NAME._target_=<a class>",
    "trainer.logger": "logger=csv, or logger.NAME._target_=<a class>",
}
NUMBER = re.compile(r"[-.]?\d[-\d._eE]*")  # of a text: 2026_1 or 1.10, which Hydra would write in another way
OWN = re.compile(r"(callbacks|logger)\.")  # what follows a class knows: training.own


def checked_arguments(typed: list[str], schema: type, folders: Sequence[Path] = (CONF,)) -> list[str]:
    """Return all arguments as Hydra reads them, its flags first. Raise SettingError for an invalid one.

    `folders`: where the choices of groups are.
    """
    flags = _checked_flags(typed, schema)
    overrides = [checked_argument(argument, schema, folders) for argument in flags.overrides]
    chosen = dict(override.partition("=")[::2] for override in overrides)
    _refuse_contradictions(chosen, flags, schema)
    if chosen.get("exercise", "none") != "none" and "hydra.mode" not in chosen:
        overrides.append("hydra.mode=MULTIRUN")  # Hydra 1.4 takes no mode from a group's file
    return [*_in_one_piece(argument for argument in typed if argument not in flags.overrides), *overrides]


def _in_one_piece(flags: Iterable[str]) -> list[str]:
    """Return each flag with its value: a bare --info would take what comes after it for one."""
    joined: list[str] = []
    for flag in flags:
        if flag.startswith("-"):
            joined.append("--info=all" if flag in ("-i", "--info") else flag)
        else:
            joined[-1] = f"{joined[-1].removesuffix('=all')}={flag}"
    return joined


def _checked_flags(typed: list[str], schema: type) -> Namespace:
    """Return Hydra's flags, with the other arguments as `overrides`. Raise SettingError for one that does not fit."""

    def refuse(message: str) -> NoReturn:  # where Hydra would print its usage, or a traceback
        raise SettingError(f"{message}; type --hydra-help to see all flags")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    if "--" in typed:  # of which each version of argparse makes something else
        raise SettingError("--: flags and settings may stand in any order; type it without")
    flags, unknown = parser.parse_known_intermixed_args(typed)
    if flags.multirun and schema is not Train:
        raise SettingError("-m: only train.py runs sweeps; type it without")
    if flags.resolve and not (flags.cfg or flags.help):
        refuse("--resolve: goes with --cfg or --help")
    if flags.run + flags.multirun + flags.shell_completion + bool(flags.cfg) + (flags.info is not None) > 1:
        refuse(f"{' '.join(typed)}: only one of --run, --multirun, --cfg, --info and --shell-completion at a time")
    for flag, value in (("--config-name", flags.config_name), ("--config-path", flags.config_path)):
        if value is not None:
            raise SettingError(f"{flag} {value}: a program reads its own configuration in conf/; type it without")
    if flags.config_dir is not None:
        folder = flags.config_dir
        raise SettingError(f"--config-dir {folder}: has another name here; type hydra.searchpath=[{folder}]")
    if unknown:
        name, equals, value = unknown[0].lstrip("-").partition("=")
        after = [*typed[typed.index(unknown[0]) + 1 :], "…"][0]
        instead = what_to_type(name, schema, value if equals else "…" if re.search("^-|=", after) else after)
        raise SettingError(f"{unknown[0]}: there is no such flag; {instead}")
    return flags


def _refuse_contradictions(chosen: dict[str, str], flags: Namespace, schema: type) -> None:
    """Raise SettingError for two arguments of which one would be ignored, or one that goes with another."""
    recipe, data, exercise = chosen.get("recipe", "none"), chosen.get("data"), chosen.get("exercise", "none")
    recipes = [path.read_text() for name in recipe.split(",") if (path := CONF / "recipe" / f"{name}.yaml").exists()]
    if data in ("book", "full") and any(re.search("^(data|defaults):", text, re.MULTILINE) for text in recipes):
        instead = f"type it without recipe={recipe}, or the reverse"
        raise SettingError(f"data={data}: a recipe has its own windows; {instead}")
    if "," in exercise or "(" in exercise:
        raise SettingError(f"exercise={exercise}: an exercise is a sweep by itself; type exercise=<one name>")
    is_sweep = flags.multirun or exercise != "none" or chosen.get("hydra.mode") == "MULTIRUN"
    for name in ("hydra/launcher", "hydra/sweeper"):
        if name in chosen and not (is_sweep or flags.cfg or flags.info):
            raise SettingError(f"{name}={chosen[name]}: runs the jobs of a sweep; type -m as well")
    if chosen.get("scale") == "smoke" and exercise == "none" and "resume" not in chosen:
        raise SettingError("scale=smoke: makes an exercise small; type exercise=<its name> as well")


def checked_argument(argument: str, schema: type, folders: Sequence[Path] = (CONF,)) -> str:
    """Return the argument as Hydra reads it. Raise SettingError for a name or a choice that does not exist.

    Hydra's grammar refuses most punctuation: a prefix and a path are quoted.
    """
    name, equals, value = argument.lstrip("+~").partition("=")
    if argument.startswith("-"):
        raise SettingError(f"{argument}: stands where a setting does; type --help to see them all, and all flags")
    if re.split("[@./]", name)[0] == "hydra":  # a setting of Hydra's own
        is_text = name in ("hydra.run.dir", "hydra.sweep.dir")
        return f"{name}='{value}'" if is_text and NUMBER.fullmatch(value) else argument
    if not equals and not argument.startswith("~"):
        raise SettingError(f"{argument}: a setting is typed as name=value; {what_to_type(argument, schema, '…')}")
    known = choices(name, folders) if schema is Train or (schema is Evaluate and name == "logger") else []
    for choice in filter(None, re.split(r"[][,]", value)) if known else ():
        if choice not in known and "(" not in value:  # glob(*) and the like are left to Hydra
            raise SettingError(no_such_choice(argument, name, choice, known))
    if known and not choices(name):  # a user's own group
        if argument.startswith(name):
            raise SettingError(f"{argument}: is a group of your own; type +{argument}")
        return argument
    if OWN.match(name) and name.partition(".")[0] in {entry.name for entry in fields(schema)}:
        return f"++{argument}" if argument.startswith(name) else argument
    if not (known or name in dict(leaves(schema))):
        raise SettingError(f"{argument}: there is no setting of that name; {what_to_type(name, schema, value)}")
    if not argument.startswith(name):
        raise SettingError(f"{argument}: it exists; type it as {name}={value or '…'}")
    if name == "prefix":
        return f"prefix={quoted(value)}"
    if name not in ("run", "resume", "init_from", "data.corpus"):
        kind = dict(leaves(schema))[name].type if NUMBER.fullmatch(value) and not known else None
        return f"{name}='{value}'" if str in (kind, *get_args(kind)) else argument
    path = unquoted_path(value)  # or a name, or a list of them
    is_several = path.startswith("[") or "," in path
    is_odd = NUMBER.fullmatch(path) or re.search(r"[^\w./-]", path, re.ASCII)
    return f"{name}={quoted(path) if is_odd and (os.path.exists(path) or not is_several) else path}"


def quoted(value: str) -> str:
    """Return the text in quotes for Hydra and OmegaConf, with a backslash more before a quote, the end, or ${."""
    escaped = re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + "\\${", value)
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), escaped)
    return f"'{escaped}'"


def unquoted_path(value: str) -> str:
    """Return the path that a user has quoted, or this program for Lightning's processes; ~ is the home directory."""
    quote = value[:1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else ""
    is_quoted = quote and not os.path.exists(value)
    return os.path.expanduser(value[1:-1].replace(f"\\{quote}", quote) if is_quoted else value)


def what_to_type(name: str, schema: type, value: str) -> str:
    """Return what to type instead of a name that does not exist: a similar one, or how to see them all."""
    group, dot, choice = name.partition(".")
    if name in INSTEAD:
        return f"type for example {INSTEAD[name]}"
    if dot and choice in choices(group):  # logger.wandb=false
        return f"type for example {group}={choices(group)[0]} ({', '.join(choices(group))})"
    names = [leaf for leaf, _ in leaves(schema)]
    by_last_part = {leaf.rpartition(".")[2]: leaf for leaf in names}
    last = name.rpartition(".")[2]
    near = [leaf for leaf in names if f"{leaf}.".startswith(f"{name}.")]
    near += get_close_matches(name, groups(), 1, 0.75) if schema is Train and not dot else []
    near += [by_last_part[last] for last in get_close_matches(SYNONYMS.get(last, last), by_last_part, 1, 0.75)]
    near += get_close_matches(name, names, 1, 0.85)
    return f"type for example {near[0]}={value}" if near else "type --help to see them all"

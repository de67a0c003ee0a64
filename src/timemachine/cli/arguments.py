"""Convert the command line for Hydra: flags first, then the overrides, with paths and texts quoted.

Hydra and the schema check names, choices and values; `cli.messages` turns their errors into one line.
Hydra's `get_args_parser` is private, tested with Hydra 1.3.8; pyproject.toml bounds Hydra from above.
"""

import dataclasses
import os
import re
from argparse import Namespace
from difflib import get_close_matches
from typing import Any, NoReturn, cast

import yaml
from hydra._internal.utils import get_args_parser
from omegaconf import OmegaConf

from timemachine.cli.schema import groups, leaves
from timemachine.config import Train, format_value
from timemachine.errors import SettingError
from timemachine.run.record import newest_run

MULTIRUN = {"-m", "--multirun"}
PATHS = {"data.corpus", "run", "resume", "init_from"}
ENTRY = re.compile(r"(callbacks|logger)\.")  # `logger.mine._target_=…` adds an entry, for which Hydra requires `++`


def checked_arguments(typed: list[str], schema: type) -> list[str]:
    """Return the arguments for Hydra. Raise SettingError for an unknown flag, or an override that cannot be valid."""
    parsed = _parsed(typed, schema)
    overrides = [hydra_override(argument, schema) for argument in parsed.overrides]
    names = dict(override.partition("=")[::2] for override in overrides)
    if names.get("exercise", "none") != "none" and "hydra.mode" not in names:
        overrides.append("hydra.mode=MULTIRUN")  # Hydra 1.4 takes no mode from a group's file
    flags = []
    for name, value in vars(parsed).items():
        if value and name != "overrides":
            flag = "-m" if name == "multirun" else f"--{name.replace('_', '-')}"
            flags.append(flag if value is True else f"{flag}={value}")
    return [*flags, *overrides]


def _parsed(typed: list[str], schema: type) -> Namespace:
    """Return Hydra's flags and the `overrides`, typed in any order. Raise SettingError for an unknown flag."""

    def refuse(message: str) -> NoReturn:  # argparse would print its usage as well
        raise SettingError(f"{message}; --hydra-help lists the flags")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    parsed, unknown = parser.parse_known_intermixed_args(typed)
    if unknown:
        name = unknown[0].lstrip("-").partition("=")[0]
        raise SettingError(f"{unknown[0]}: unknown flag; {nearest_setting(name, schema)}")
    return parsed


def hydra_override(argument: str, schema: type) -> str:
    """Return an override in Hydra's grammar. Raise SettingError for a name that cannot be a setting."""
    if argument.lstrip("+").startswith("resume="):
        argument = argument.lstrip("+")  # `program._main` and cli.resume search for `resume=`
    marked, _, value = argument.partition("=")
    name = marked.lstrip("+~")
    if not name:
        raise SettingError(f"{argument}: expected a name before =; --help lists the settings")
    if (quoted_value := _value_for_hydra(name, value, argument)) is not None:
        return f"{marked}={quoted_value}"
    if ENTRY.match(name):
        return argument if marked != name else f"++{argument}"
    known = dict(leaves(schema))
    below = [leaf for leaf in known if leaf.startswith(f"{name}.")]
    if below and name not in groups() and re.match(r"[^{$]", value):  # a mapping is valid
        kind = type(yaml.safe_load(value))
        near = next((leaf for leaf in below if type(known[leaf].default) is kind), below[0])
        raise SettingError(f"{argument}: {name} has several settings; did you mean {near}={value}?")
    if argument == f"~{name}" and name in known and name not in groups():  # OmegaConf cannot delete a dataclass's field
        setting = known[name]
        no_default = setting.default is dataclasses.MISSING
        return f"{name}={format_value(setting.default_factory() if no_default else setting.default)}"  # type: ignore[operator]
    return argument


def _value_for_hydra(name: str, value: str, argument: str) -> str | None:
    """Return a value with quotes where a text or a path would break Hydra's grammar; None if it needs no change."""
    if name == "exercise" and value.isdecimal():
        from timemachine.exercises import BY_NUMBER

        if 0 < int(value) <= len(BY_NUMBER):
            return BY_NUMBER[int(value) - 1]
    # Hydra fails with a traceback if a choice is not a text.
    if name in groups() and re.match(r"[-\d.]|(null|true|false|nan|inf)$", value):
        return f"'{value}'"
    if name == "prefix":  # a setting of generate.py that accepts any text
        return quoted(value)
    if name in PATHS - {"data.corpus"} and value == "latest" and not os.path.exists(value):
        value = str(newest_run(argument))
    if name in PATHS and os.path.exists(path := os.path.expanduser(value)):
        return quoted(path)
    if name == "hydra.searchpath":  # absolute, since jobs and processes may have another working directory
        folders = (unquoted_path(folder.strip()) for folder in value.strip("[]").split(",") if folder)
        absolute = (folder if "://" in folder else os.path.abspath(folder) for folder in folders)  # noqa: PTH100 (text)
        return f"[{','.join(map(quoted, absolute))}]"
    return None


def name_of(override: str) -> str:
    """Return the name in an override, such as `model.lr` of `+model.lr=1`."""
    return override.lstrip("+~").partition("=")[0]


def nearest_setting(name: str, schema: type) -> str:
    """Return advice for an unknown name: the most similar settings and groups, or --help all."""
    names = [leaf for leaf, _ in leaves(schema)] + (groups() if schema is Train else [])
    by_last_part = {known.rpartition(".")[2]: known for known in names}
    near = get_close_matches(name, names, 1, 0.75)
    near += [by_last_part[part] for part in get_close_matches(name.rpartition(".")[2], by_last_part, 2, 0.75)]
    return f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else "--help all lists the settings"


def quoted(value: str) -> str:
    """Return the text in quotes for Hydra and OmegaConf; a quote, ${ and backslashes before them are escaped."""
    escaped = re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + "\\${", value)
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), escaped)
    return f"'{escaped}'"


def unquoted_path(value: str) -> str:
    """Return a path without the quotes of a user, or of `quoted` in Lightning's processes; ~ is the home directory."""
    quote = value[:1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else ""
    is_quoted = quote and not os.path.exists(value)
    return os.path.expanduser(value[1:-1].replace(f"\\{quote}", quote) if is_quoted else value)


def as_typed(overrides: Any) -> list[str]:
    """Return Hydra's list of overrides with each `${…}` unresolved; iterating over the list would resolve it."""
    return [str(override) for override in cast(list[Any], OmegaConf.to_container(overrides, resolve=False))]


def added_search_path(hydra: Any) -> list[str]:
    """Return the argument that gives another program the search path from `--config-dir` or `hydra.searchpath`.

    `hydra`: Hydra's own settings.
    """
    sources = hydra["runtime"]["config_sources"]
    added = [quoted(source["path"]) for source in sources if "command-line" in source["provider"]]
    return [f"hydra.searchpath=[{','.join(added)}]"] if added else []

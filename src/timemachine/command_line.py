"""From what a user typed to Hydra, and from any mistake to one line.

Hydra would accept `+model.hidens=64`, and its advice on a misspelt name is to add that `+`. So names and choices are
looked up in the schema first, with the nearest valid one in the answer; only values are left to Hydra and OmegaConf.
"""

import dataclasses
import errno
import functools
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

import hydra
from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from timemachine.config import REPOSITORY, Probe, SettingError, UserError
from timemachine.corpus import normalise
from timemachine.files import link_or_pipe, read_yaml, write_whole
from timemachine.record import Signalled, is_first_process, is_job

INTERRUPTED = 130  # the shell's exit status after Ctrl-C
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

_folder = "a file"  # of a run or a sweep


def program(schema: type) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make a function of a configuration the Hydra program of that schema's name: conf/<name>.yaml.

    It ends with one line on stderr and exit status 1 where the user has to change something.
    """

    def decorate(task: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @hydra.main(version_base="1.3", config_path=str(REPOSITORY / "conf"), config_name=schema.__name__.lower())
        @functools.wraps(task)
        def hydra_program(cfg: DictConfig) -> Any:
            end_in_order()
            try:
                return task(cfg)
            # Here and not in main, because Hydra would add a line of its own.
            except (UserError, OmegaConfBaseException, OSError) as error:
                _exit(error, schema)

        def main() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, instead of printing a traceback of its own
            logging.raiseExceptions = False  # a full disk is told once, not at each line that a library logs
            _obey_signals()
            try:
                sys.argv[1:] = checked_arguments(sys.argv[1:], schema)
                if not (is_first_process() or any(a.startswith("hydra.run.dir=") for a in sys.argv)):
                    sys.argv += ["hydra.run.dir=.", "hydra.output_subdir=null"]  # srun, torchrun: one folder a run
                hydra_program()
            except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
                _exit(error, schema)
            except KeyboardInterrupt:
                print(_how_it_ended(signal.SIGINT), file=sys.stderr)
                sys.exit(INTERRUPTED)
            except Signalled as end:
                print(_how_it_ended(end.number), file=sys.stderr)
                if end.number == signal.SIGUSR1 and "SLURM_JOB_ID" in os.environ and is_first_process():
                    subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=False)
                raise

        return main

    return decorate


def _obey_signals() -> None:
    """A signal ends the program at once, until `end_in_order`. What Lightning has started leaves that to the first
    process, and ends with it; so does a job of a sweep.
    """
    by_lightning = any(argument.startswith("hydra.job.name=train_ddp_process_") for argument in sys.argv)
    for number in SIGNALS:  # no exception yet: what is imported meanwhile would catch it
        signal.signal(number, signal.SIG_IGN if by_lightning else _end_at_once)
    if is_job() or not is_first_process():
        end_with(os.getppid())
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach())
    threading.Thread(target=_end_at_the_second, args=(reader,), daemon=True).start()


def _end_at_the_second(signals: socket.socket) -> None:
    """In a thread of its own, as no handler runs while the main thread waits for another process, or a device."""
    came = 0
    while True:
        number = signals.recv(1)[0]
        came += number in SIGNALS
        if came > 1:
            _end_at_once(number, None)


def end_with(parent: int) -> None:
    """From now on this process ends when its parent has ended, however that did."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_in_order() -> None:
    """From now on there is something to save: the first signal is an exception."""
    by_submitit = "SUBMITIT_EXECUTOR" in os.environ  # which ignores what announces the end of a job
    for number in SIGNALS:
        if signal.getsignal(number) is _end_at_once or (by_submitit and number == signal.SIGTERM):
            signal.signal(number, _stop)


def _stop(number: int, frame: types.FrameType | None) -> NoReturn:
    """What the first signal does. No KeyboardInterrupt: after that Lightning and others would not hear the second."""
    for later in SIGNALS:
        signal.signal(later, lambda number, frame: None)  # left to `_end_at_the_second`
    raise Signalled(number)


def _end_at_once(number: int, frame: types.FrameType | None) -> NoReturn:
    os.write(2, f"{_how_it_ended(number)}\n".encode())
    os._exit(128 + number)


def _how_it_ended(number: int) -> str:
    return "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"


def _exit(error: Exception, schema: type) -> NoReturn:
    # A folder that cannot be written, a full disk. A choice that Hydra does not find is an OSError, too.
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        message = f"{error.filename or _folder}: {error.strerror or error}; {_elsewhere(error.errno)}"
    else:
        message = str(error) if isinstance(error, UserError) else _in_one_line(error, schema)
    sys.exit(f"error: {' '.join(message.split())}" if is_first_process() else 1)


def writes_into(folder: Path) -> None:
    """Note where, for the message of an error that does not know; Hydra has forgotten it by then."""
    global _folder
    _folder = os.path.relpath(folder)


def _elsewhere(error: int | None) -> str:
    """What to type where a folder cannot be written."""
    where = "hydra.run.dir=<a folder to write to>"
    if any(argument.startswith("resume=") for argument in sys.argv):
        where = "resume=<a copy of the folder, where one can write>"
    elif {"-m", "--multirun"} & set(sys.argv):
        where = "hydra.sweep.dir=<a folder to write to>"
    return f"make room, or type {where}" if error == errno.ENOSPC else f"type {where}"


def checked_arguments(arguments: list[str], schema: type) -> list[str]:
    """All arguments as Hydra shall read them. Flags such as `--cfg job` and `-m` are Hydra's own."""
    if schema.__name__ != "Train" and {"-m", "--multirun"} & set(arguments):
        raise SettingError("-m: only train.py runs sweeps; type it without")
    arguments = sorted(arguments, key=lambda argument: argument not in ("-m", "--multirun"))  # argparse wants it first
    _refuse_unknown_flags(arguments, schema)
    for_wandb = [argument for argument in arguments if argument.startswith("logger.wandb.")]
    others = [argument for argument in arguments if argument in ("logger=csv", "logger=tensorboard")]
    if for_wandb and others:
        raise SettingError(f"{for_wandb[0]}: goes with logger=wandb; type it without {others[0]}")
    recipes = [a for a in arguments if a.startswith("recipe=") and a != "recipe=none"]
    if recipes and (cuts := [a for a in arguments if a in ("data=book", "data=full")]):
        raise SettingError(f"{cuts[0]}: a recipe has its own windows; type it without {recipes[0]}, or the reverse")
    exercise = next((a.partition("=")[2] for a in arguments if a.startswith("exercise=")), "none")
    resumed = [argument for argument in arguments if argument.startswith("resume=")]
    if len(resumed) > 1:
        raise SettingError(f"{resumed[1]}: goes with one folder; type it without {resumed[0]}")
    for argument in resumed:
        folder = os.path.expanduser(_unquoted(argument.partition("=")[2]))
        if "${" in folder:
            raise SettingError(f"resume={folder}: Hydra reads no path with ${{; rename it and type its new name")
        if os.path.isfile(f"{folder}/.hydra/overrides.yaml"):
            arguments = _with_those_of_the_run(folder, arguments)
        else:
            arguments = [*arguments, _sweep_folder(folder, exercise, arguments)]
        if (odd := link_or_pipe(Path(folder))) is not None:
            raise SettingError(f"resume={folder}: holds {str(odd)!r}, a link or a pipe; type another run")
    after_flag = [before.startswith("-") for before in ["", *arguments]]
    return [
        argument if follows and "=" not in argument else checked_argument(argument, schema)
        for argument, follows in zip(arguments, after_flag, strict=False)
    ]


def _refuse_unknown_flags(arguments: list[str], schema: type) -> None:
    """Raise SettingError for what starts with a dash and is no flag of Hydra's, which would print its usage."""

    def refuse(message: str) -> NoReturn:
        raise SettingError(f"{' '.join(arguments)}: {message}; type --hydra-help to see all flags")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    _, unknown = parser.parse_known_args(arguments)
    if unknown:
        name, equals, value = unknown[0].lstrip("-").partition("=")
        instead = f"type {name}={value}" if equals else _instead(name, schema, value)
        raise SettingError(f"{unknown[0]}: there is no such flag; {instead}")


def _with_those_of_the_run(folder: str, arguments: list[str]) -> list[str]:
    """What was typed now, and what the run in the folder was started with where it was not typed anew; in its folder.

    Raises SettingError where the list of the run cannot be read, or cannot go with what was typed.
    """
    try:
        before: Any = read_yaml(Path(folder) / ".hydra" / "overrides.yaml")
        if not isinstance(before, list) or not all(isinstance(typed, str) and "=" in typed for typed in before):
            raise TypeError
    except (OSError, TypeError, ValueError) as error:
        raise SettingError(
            f"resume={folder}: has no .hydra/overrides.yaml that can be read; type another run"
        ) from error
    now = {typed.partition("=")[0] for typed in arguments}
    before = [typed for typed in before if typed.partition("=")[0] not in now]
    for typed in before:  # a stranger may have written it
        if typed.lstrip("+~-").startswith("hydra") or typed.startswith("-"):  # Hydra would obey, and execute code
            raise SettingError(f"resume={folder}: its .hydra/overrides.yaml has {typed!r}; type another run")
        if "${" in typed:  # may read the environment
            name = typed.partition("=")[0]
            raise SettingError(f"resume={folder}: its .hydra/overrides.yaml has {typed!r}; type {name}=… anew")
    for typed in arguments:
        if typed in ("-m", "--multirun") or (typed.startswith("exercise=") and typed not in before):
            raise SettingError(f"{typed}: resume={folder} is a single run; type it without {typed}")
    # The list is kept once the run has been accepted: `keep_overrides`.
    arguments = [*arguments, "hydra.mode=RUN", "hydra.output_subdir=null", f"hydra.run.dir={quoted(folder)}"]
    other_logger = any(typed.startswith("logger=") for typed in arguments)
    return [
        *dict.fromkeys(arguments),
        *(typed for typed in before if not (other_logger and typed.startswith("logger."))),
    ]


@contextmanager
def keep_overrides(folder: Path, overrides: Sequence[str]) -> Iterator[None]:
    """Leave what a run goes on with in its folder, for the next time; not if it is refused, by a SettingError."""
    path = folder / ".hydra" / "overrides.yaml"
    before = path.read_bytes() if path.exists() else b"[]"
    if is_first_process():
        path.parent.mkdir(exist_ok=True)
        write_whole(path, OmegaConf.to_yaml(OmegaConf.create(list(overrides))).encode())
    try:
        yield
    except SettingError:
        if is_first_process():
            write_whole(path, before)
        raise


def _sweep_folder(folder: str, exercise: str, arguments: list[str]) -> str:
    """What makes Hydra go on in the folder that `resume=` names.

    Raises SettingError where that is no folder of a sweep of the exercise: before Hydra writes into it.
    """
    argument = f"resume={folder}"
    try:
        before = read_yaml(Path(folder) / "multirun.yaml")["hydra"]["runtime"]["choices"]["exercise"]
    except (OSError, LookupError, TypeError, ValueError) as error:
        known = "type resume=outputs/<date>/<time> or resume=sweeps/<exercise>/<date_time>"
        raise SettingError(f"{argument}: is no folder of a run or a sweep; {known}") from error
    if exercise == "none" and not {"-m", "--multirun"} & set(arguments):
        raise SettingError(f"{argument}: goes on with a sweep; type the command that began it, such as exercise=…")
    if before != exercise:
        raise SettingError(f"{argument}: is a sweep of exercise={before}; type the command that began it")
    return f"hydra.sweep.dir={quoted(folder)}"


def quoted(value: str) -> str:
    """The text as Hydra's grammar and OmegaConf read it: a backslash is one of two before a quote, the end, or ${."""
    escaped = re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + "\\${", value)
    escaped = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), escaped)
    return f"'{escaped}'"


def _unquoted(value: str) -> str:
    """A path that this program has quoted: Lightning's processes start with what it made of the arguments."""
    is_quoted = len(value) > 1 and value[0] == value[-1] == "'" and not os.path.exists(value)
    return value[1:-1].replace("\\'", "'") if is_quoted else value


def checked_argument(argument: str, schema: type) -> str:
    """The argument as Hydra shall read it. Raises SettingError for a name or a choice that does not exist.

    Hydra's grammar refuses most punctuation. So a prefix is normalised like the corpus and quoted, and the path of
    something that exists is quoted too.
    """
    if argument.startswith("-"):
        return argument
    name, equals, value = argument.lstrip("+~").partition("=")
    if name.split("@")[0].split(".")[0].split("/")[0] == "hydra":
        return argument
    if not equals and not argument.startswith("~"):
        raise SettingError(f"{argument}: a setting is typed as name=value; {_instead(argument, schema, '…')}")
    if (choices := _choices(name)) and schema.__name__ == "Train":
        for choice in value.split(","):
            if choice not in choices:
                nearest = (get_close_matches(choice, choices, 1, 0) or choices)[0]
                raise SettingError(
                    f"{argument}: no such choice; type for example {name}={nearest} ({', '.join(choices)})"
                )
        if not argument.startswith(name):
            raise SettingError(f"{argument}: type it as {name}={value}")
        return argument
    if name not in dict(_leaves(schema)):
        raise SettingError(f"{argument}: there is no setting of that name; {_instead(name, schema, value)}")
    if argument.startswith(("+", "~")):
        raise SettingError(f"{argument}: the setting exists; type it as {name}={value or '…'}")
    if name == "prefix":
        letters = normalise(os.fsencode(value)).decode()
        if value and not letters.strip():
            raise SettingError(f"prefix={value}: has no letter from A to Z; type for example prefix='it has'")
        return f"prefix='{letters}'"
    if name not in ("run", "resume", "data.corpus"):
        return argument
    value = os.path.expanduser(_unquoted(value))
    is_several = value.startswith("[") or "," in value
    if re.search(r"[^\w./-]", value, re.ASCII) and (os.path.exists(value) or not is_several):
        return f"{name}={quoted(value)}"
    return f"{name}={value}"


def _leaves(schema: type, path: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Dotted name -> (type, default) of every setting of the schema."""
    hints = get_type_hints(schema)
    for field in dataclasses.fields(schema):
        name, kind = path + field.name, _without_none(hints[field.name])
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            yield from _leaves(kind, f"{name}.")
        else:
            yield name, (kind, field.default)


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        return next(part for part in get_args(kind) if part is not types.NoneType)
    return kind


def _choices(group: str) -> list[str]:
    return sorted(file.stem for file in (REPOSITORY / "conf" / group).glob("*.yaml")) if group.isidentifier() else []


def _instead(name: str, schema: type, value: str) -> str:
    """What to type instead of a name that does not exist: one that is near, or how to see them all."""
    leaves = [leaf for leaf, _ in _leaves(schema)]
    by_last_part = {leaf.rpartition(".")[2]: leaf for leaf in leaves}
    near = [leaf for leaf in leaves if leaf.startswith(f"{name}.")]
    near += [by_last_part[last] for last in get_close_matches(name.rpartition(".")[2], by_last_part, 1, 0.75)]
    near += get_close_matches(name, leaves, 1, 0.85)
    return f"type for example {near[0]}={value}" if near else "type --help to see them all"


def _in_one_line(error: Exception, schema: type) -> str:
    """Hydra's or OmegaConf's message about a value, with what to type instead."""
    cause = error.__cause__ or error
    name = str(getattr(cause, "full_key", None) or "")
    leaf = dict(_leaves(schema)).get(name)
    text = str(error).strip()
    if isinstance(error, OverrideParseException):
        typed = error.override.partition("=")[0]
        return f"{error.override}: Hydra cannot read this value; type a plain one, or quote it: '{typed}=\"…\"'"
    if "Ambiguous value" in text or "requires --multirun" in text:
        typed = text.partition("'")[2].partition("'")[0]
        several = "a sweep; type it with -m" if schema.__name__ == "Train" else "a list; type [a,b]"
        return f"{typed}: several values are {several}"
    if "submitit_slurm" in text:
        return "hydra/launcher=slurm: is not installed; type pip install -e '.[slurm]'"
    if leaf and isinstance(cause, OmegaConfBaseException):
        kind, default = leaf
        value = next((a.partition("=")[2] for a in sys.argv[1:] if a.startswith(f"{name}=")), "?")
        return f"{name}={value}: must be {_described(kind)}; type for example {name}={_example(kind, default)}"
    said = " ".join(str(cause if isinstance(cause, OmegaConfBaseException) else error).split("\n")[0].split())
    return said if "type " in said else f"{said}; type another value"


def _described(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "one of " + ", ".join(kind.__members__)
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return names.get(kind, "a list, such as [a,b]")


def _example(kind: Any, default: Any) -> str:
    if isinstance(default, Enum):
        return default.name
    if default is None or default is dataclasses.MISSING:
        examples = {int: "10", float: "0.5", bool: "true", list[str]: "[pilot]", list[Probe]: "[stream]"}
        return examples.get(kind, "…")
    return str(default).lower() if isinstance(default, bool) else str(default)

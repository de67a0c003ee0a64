"""Hydra's own flags, such as -m, --cfg job and --help.

Private: `get_args_parser`, of Hydra's, tested with Hydra 1.3.8; pyproject.toml bounds it from above.
"""

from argparse import Namespace
from typing import NoReturn

from hydra._internal.utils import get_args_parser

from timemachine.errors import SettingError

MULTIRUN = {"-m", "--multirun"}


def hydra_flags(arguments: list[str]) -> tuple[Namespace, list[str]]:
    """Return Hydra's flags, with the other arguments as `overrides`; and what starts with a dash and is none of them.

    Raise SettingError where Hydra would print its usage and exit, or a traceback.
    """

    def refuse(message: str) -> NoReturn:
        raise SettingError(f"{' '.join(arguments)}: {message}; type --hydra-help to see all flags")

    parser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    flags, others = parser.parse_known_args(arguments)
    if flags.resolve and not (flags.cfg or flags.help):
        refuse("--resolve goes with --cfg or --help")
    if flags.run + flags.multirun + flags.shell_completion + bool(flags.cfg) + (flags.info is not None) > 1:
        refuse("only one of --run, --multirun, --cfg, --info and --shell-completion at a time")
    return flags, others

"""Text as Hydra's grammar and OmegaConf read it."""

import os
import re


def quoted(value: str) -> str:
    """Return the text in quotes, with a backslash more before a quote, the end, or ${."""
    escaped = re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + "\\${", value)
    escaped = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), escaped)
    return f"'{escaped}'"


def unquoted_path(value: str) -> str:
    """Return the path that this program has quoted; Lightning starts its processes with the arguments as they became.

    The home directory may be typed as ~.
    """
    is_quoted = len(value) > 1 and value[0] == value[-1] == "'" and not os.path.exists(value)
    return os.path.expanduser(value[1:-1].replace("\\'", "'") if is_quoted else value)

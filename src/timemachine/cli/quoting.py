"""Texts and paths as Hydra's grammar takes them, and as users and Lightning's processes type them."""

import os
import re


def quoted(value: str) -> str:
    """Return the text in quotes for Hydra and OmegaConf, with a backslash more before a quote, the end, or ${."""
    escaped = re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + "\\${", value)
    escaped = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), escaped)
    return f"'{escaped}'"


def unquoted_path(value: str) -> str:
    """Return the path that a user has quoted, or this program for Lightning's processes; ~ is the home directory."""
    quote = value[:1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else ""
    is_quoted = quote and not os.path.exists(value)
    return os.path.expanduser(value[1:-1].replace(f"\\{quote}", quote) if is_quoted else value)

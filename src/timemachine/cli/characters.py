"""What a terminal shows that cannot write ±, η or a box: an error handler of Python's codecs."""

import codecs
import io
import sys
import unicodedata

PLAIN = {"±": "+-", "–": "-", "—": "-", "…": "...", "•": "-", "→": "->"}


def write_any_character() -> None:
    """Let standard output and error write what their encoding has no character for in other ones."""
    codecs.register_error(write_any_character.__name__, _in_plain_characters)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors=write_any_character.__name__)


def _in_plain_characters(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for the first character that cannot be written: alpha for α, ? for what has no plain name."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    name = unicodedata.name(character, "")
    greek = name.rpartition(" ")[2].lower() if name.startswith("GREEK SMALL LETTER ") else "?"
    return PLAIN.get(character, greek), error.start + 1

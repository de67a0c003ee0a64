"""Four small texts of our own, with what letters lose: a page each of English, German, Greek and Chinese."""

from pathlib import Path

LANGUAGES = ("english", "german", "greek", "chinese")


def path_of(language: str) -> Path:
    """Return where a text lies, in UTF-8."""
    return Path(__file__).parent / f"{language}.txt"


def read(language: str) -> str:
    """Return a text, as it is in the file."""
    return path_of(language).read_text(encoding="utf-8")

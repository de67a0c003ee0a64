"""Four original texts of a page each, in English, German, Greek and Chinese, with characters that `letters` drops."""

from pathlib import Path


def path_of(language: str) -> Path:
    """Return the path of a text in UTF-8."""
    return Path(__file__).parent / f"{language}.txt"


def read(language: str) -> str:
    return path_of(language).read_text(encoding="utf-8")

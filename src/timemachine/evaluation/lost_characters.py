"""Characters that become spaces if a text is read as letters."""

from collections import Counter
from string import ascii_letters, whitespace

from timemachine.config import Tokens
from timemachine.corpus import Corpus
from timemachine.texts.normalisation import normalise, without_gutenberg

KEPT = (ascii_letters + whitespace).encode()
BEGINNING = 16 << 20  # bytes


def count_replaced(corpus: Corpus) -> dict[str, int]:
    """Count the digits, letters outside A-Z and other characters, except white space, that became spaces.

    The text is decoded as UTF-8 if valid, otherwise as Latin-1. Counts are 0 unless it is read as letters.
    """
    counts = {"digits": 0, "letters": 0, "other": 0}
    for path in corpus.paths if corpus.tokens is Tokens.letters else ():
        for kind, count in _count_replaced(path.read_bytes()).items():
            counts[kind] += count
    return counts


def _count_replaced(text: bytes) -> dict[str, int]:
    body, counts = without_gutenberg(text).translate(None, KEPT), Counter[str]()  # leaves a tenth of an English text
    try:
        decoded = body.decode("utf-8")
    except UnicodeDecodeError:
        decoded = body.decode("latin-1")
    for character, count in Counter(decoded).items():
        kind = "digits" if character.isdigit() else "letters" if character.isalpha() else "other"
        counts[kind] += 0 if character.isspace() else count
    return counts


def lost_characters(text: str) -> str:
    """Return the distinct characters, except white space, that a model of letters reads as spaces, in their order."""
    return "".join(dict.fromkeys(it for it in text if it not in ascii_letters and not it.isspace()))


def lost_letters_warning(corpus: Corpus) -> str:
    """Return a line with the number of letters that became spaces, or "" if they are less than 1% of the letters.

    Reads only the beginning of a large text.
    """
    characters, where = corpus.characters, ""
    if not corpus.is_large:
        lost = count_replaced(corpus)["letters"]
    else:
        with corpus.paths[0].open("rb") as file:
            beginning = file.read(BEGINNING)
        beginning = beginning[: beginning.rfind(b"\n") + 1]
        lost = _count_replaced(beginning)["letters"] if corpus.tokens is Tokens.letters else 0
        characters, where = normalise(without_gutenberg(beginning)), f" in its first {len(beginning):,} bytes"
    letters = lost + len(characters) - characters.count(" ")
    share = f"{lost / max(letters, 1):.1%}"
    line = f"text          {lost:,} of {letters:,} letters{where} are not A to Z and become spaces ({share})"
    return f"{line}; data.tokens=characters keeps them" if lost and lost >= letters / 100 else ""

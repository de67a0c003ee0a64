"""What a text lost when it was read as letters."""

from collections import Counter
from string import ascii_letters, whitespace

from timemachine.config import Tokens
from timemachine.corpus import Corpus
from timemachine.texts.normalisation import normalise, without_gutenberg

KEPT = (ascii_letters + whitespace).encode()
BEGINNING = 16 << 20  # bytes


def replaced(corpus: Corpus) -> dict[str, int]:
    """Count the digits, letters outside A-Z (accents) and other characters, white space aside, that became spaces.

    Text is UTF-8 where that decodes, else Latin-1. As characters none did.
    """
    counts = {"digits": 0, "accents": 0, "other": 0}
    for path in corpus.paths if corpus.tokens is Tokens.letters else ():
        for kind, count in _replaced(path.read_bytes()).items():
            counts[kind] += count
    return counts


def _replaced(text: bytes) -> dict[str, int]:
    body, counts = without_gutenberg(text).translate(None, KEPT), Counter[str]()  # which leaves a tenth of a text
    try:
        decoded = body.decode("utf-8")
    except UnicodeDecodeError:
        decoded = body.decode("latin-1")
    for character, count in Counter(decoded).items():
        kind = "digits" if character.isdigit() else "accents" if character.isalpha() else "other"
        counts[kind] += 0 if character.isspace() else count
    return counts


def lost_characters(text: str) -> str:
    """Return the distinct characters of a text, in their order, that are read as spaces by a model of letters.

    White space is not among them.
    """
    return "".join(dict.fromkeys(it for it in text if it not in ascii_letters and not it.isspace()))


def lost_letters(corpus: Corpus) -> str:
    """Return a line that says how many letters became spaces, "" for less than 1 % of them.

    Of a large text it reads the beginning alone.
    """
    characters, where = corpus.characters, ""
    if not corpus.is_large:
        lost = replaced(corpus)["accents"]
    else:
        with corpus.paths[0].open("rb") as file:
            beginning = file.read(BEGINNING)
        beginning = beginning[: beginning.rfind(b"\n") + 1]
        lost = _replaced(beginning)["accents"] if corpus.tokens is Tokens.letters else 0
        characters, where = normalise(without_gutenberg(beginning)), f" in its first {len(beginning):,} bytes"
    letters = lost + len(characters) - characters.count(" ")
    share = f"{lost / max(letters, 1):.1%}"
    line = f"text          {lost:,} of {letters:,} letters{where} are not A to Z: they become spaces ({share})"
    return f"{line}; data.tokens=characters keeps them" if lost and lost >= letters / 100 else ""

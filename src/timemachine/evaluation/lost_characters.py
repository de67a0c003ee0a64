"""Characters that a model does not read as they are: they become spaces or `<unk>`."""

import sys
from collections import Counter
from pathlib import Path
from string import ascii_letters, whitespace

from timemachine.config import PREFIX, Tokens, require
from timemachine.corpus import Corpus
from timemachine.texts.normalisation import with_line_feeds, without_gutenberg
from timemachine.vocab import Vocab

KEPT = (ascii_letters + whitespace).encode()


def count_replaced(corpus: Corpus) -> dict[str, int]:
    """Count the digits, letters outside A-Z and other characters, except white space, that became spaces.

    The text is decoded as UTF-8 if valid, otherwise as Latin-1. Counts are 0 unless it is read as letters.
    """
    counts = {"digits": 0, "letters": 0, "other": 0}
    for path in corpus.paths if corpus.tokens is Tokens.letters else ():
        for kind, count in _count_replaced(path).items():
            counts[kind] += count
    return counts


def _count_replaced(path: Path) -> dict[str, int]:
    counts = Counter[str]()
    # The remainder is a tenth of an English text.
    replaced = b"".join(piece.translate(None, KEPT) for piece in without_gutenberg(with_line_feeds(path.read_bytes())))
    try:
        decoded = replaced.decode("utf-8")
    except UnicodeDecodeError:
        decoded = replaced.decode("latin-1")
    for character, count in Counter(decoded).items():
        kind = "digits" if character.isdigit() else "letters" if character.isalpha() else "other"
        counts[kind] += 0 if character.isspace() else count
    return counts


def readable_prefix(typed: str, vocab: Vocab) -> str:
    """Return a typed prefix as a model reads it; print to stderr which characters it reads as spaces or `<unk>`.

    The default prefix becomes empty if the vocabulary lacks its letters. Raises SettingError for a prefix without a
    letter, if the model reads letters only.
    """
    prefix = vocab.tokens_of(typed)
    if vocab.kind is Tokens.letters and typed:
        require(bool(prefix.strip(" ")), "prefix", typed, "contains no letter from A to Z", f"'{PREFIX}'")
        lost = dict.fromkeys(each for each in typed if each not in ascii_letters and not each.isspace())
        if lost:
            print(f"prefix: the model reads {' '.join(map(repr, lost))} as spaces", file=sys.stderr)
    if unknown := vocab.unknown(prefix):
        print(f"prefix: the vocabulary lacks {' '.join(map(repr, unknown))}, read as <unk>", file=sys.stderr)
        prefix = "" if typed == PREFIX else prefix
    return prefix


def lost_letters_warning(corpus: Corpus) -> str:
    """Return a line with the number of letters that became spaces, or "" if they are less than 1% of the letters."""
    lost = count_replaced(corpus)["letters"]
    letters = lost + len(corpus.characters) - corpus.characters.count(" ")
    share = f"{lost / max(letters, 1):.1%}"
    line = f"text          {lost:,} of {letters:,} letters are not A to Z and become spaces ({share})"
    return f"{line}; data.tokens=characters keeps them" if lost and lost >= letters / 100 else ""

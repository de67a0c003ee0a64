"""Characters that a model does not read as they are: they become spaces or `<unk>`."""

import sys
from string import ascii_letters

from timemachine.config import PREFIX, Tokens, require
from timemachine.corpus import Corpus
from timemachine.vocab import Vocab


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
    lost = corpus.replaced["letters"]
    letters = lost + len(corpus.characters) - corpus.characters.count(" ")
    share = f"{lost / max(letters, 1):.1%}"
    line = f"text          {lost:,} of {letters:,} letters are not A to Z and become spaces ({share})"
    return f"{line}; data.tokens=characters keeps them" if lost and lost >= letters / 100 else ""

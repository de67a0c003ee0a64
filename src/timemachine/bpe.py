"""Byte-pair encoding: learn tokens from a text, and cut a text into them, as in the next edition of the book.

A text is cut into words by GPT-2's pattern, a word into the bytes of its UTF-8. Then the pair of neighbours that
occurs most often becomes one token, again and again; no token spans two words. Sennrich, Haddow and Birch, "Neural
machine translation of rare words with subword units", 2016; Radford et al., "Language models are unsupervised multitask
learners", 2019, on bytes.

The package `tokenizers` is not used: it resolves ties in another way, so that 14 of the book's 1,024 tokens differ.
"""

import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from heapq import heappop, heappush
from itertools import pairwise

PART = 1 << 20  # characters that are cut into words at once
_BETWEEN = re.compile(r"(?<=\S)(?=\s)")  # a white space after another character always begins a word
Pair = tuple[bytes, bytes]


def _pattern(other_numbers: str = "") -> re.Pattern[str]:
    """Return GPT-2's pattern, for which the standard library has neither \\p{L}, a letter, nor \\p{N}, a number.

    `other_numbers`: characters such as ½ that are numbers to Unicode, but letters to the standard library.
    """
    letter, number = rf"[^\W\d_{other_numbers}]", rf"[\d{other_numbers}]"
    return re.compile(rf"'s|'t|'re|'ve|'m|'ll|'d| ?{letter}+| ?{number}+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


_WORD = _pattern()


@cache
def _other_numbers() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return a pattern for one of them, and that for words, 20 times as slow, which knows them."""
    found = "".join(c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in ("Nl", "No"))
    return re.compile(f"[{found}]"), _pattern(found)


def words(text: str) -> Iterator[str]:
    """Yield the words of a text, which together are the text."""
    start = 0
    while start < len(text):
        end = _BETWEEN.search(text, start + PART)
        part, pattern = text[start : end.start() if end else len(text)], _WORD
        if not part.isascii():
            other_number, with_them = _other_numbers()
            pattern = with_them if other_number.search(part) else _WORD
        yield from pattern.findall(part)
        start += len(part)


def learn(text: str, vocab_size: int) -> list[str]:
    """Return the tokens that a text teaches: the 256 bytes, then pairs in the order in which they were joined.

    Of pairs that occur equally often the one that comes first in the text is joined, as in the book. Fewer than
    `vocab_size` tokens if no pair is left. A token is a str with surrogates for bytes that are no whole character, as
    by `bytes.decode("utf-8", "surrogateescape")`.
    """
    count_of_word = Counter(words(text))  # in the order of the text
    counts, parts = list(count_of_word.values()), [_bytes_of(word) for word in count_of_word]
    count_of: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)  # the words in which a pair occurs

    def add(word: int) -> list[Pair]:
        pairs = [*pairwise(parts[word])]
        for pair in pairs:
            count_of[pair] += counts[word]
            places[pair].add(word)
        return pairs

    def remove(word: int) -> None:
        for pair in pairwise(parts[word]):
            count_of[pair] -= counts[word]
            places[pair].discard(word)

    def rank(pair: Pair) -> tuple[int, int, int, Pair]:
        """Return what is least for the pair to join next: the count, negated, and the first place."""
        word = min(places[pair])
        place = [*pairwise(parts[word])].index(pair)
        return -count_of[pair], word, sum(map(len, parts[word][:place])), pair

    seen = {pair for word in range(len(parts)) for pair in add(word)}
    heap = sorted(map(rank, seen))
    tokens = [bytes([byte]) for byte in range(256)]
    while heap and len(tokens) < vocab_size:
        # A pair may have become rarer since it was pushed, or its first place gone; its rank never falls.
        pushed = heappop(heap)
        pair = pushed[-1]
        if not places[pair]:
            continue
        if (now := rank(pair)) != pushed:
            heappush(heap, now)
            continue
        token = b"".join(pair)
        tokens.append(token)
        joined = set[Pair]()
        for word in sorted(places[pair]):
            remove(word)
            parts[word] = _joined(parts[word], pair)
            joined.update(it for it in add(word) if token in it)
        for it in joined:
            heappush(heap, rank(it))
    return list(map(to_text, tokens))


def _joined(parts: list[bytes], pair: Pair) -> list[bytes]:
    """Return the parts of a word with each occurrence of a pair as one, from left to right."""
    joined, place = list[bytes](), 0
    while place < len(parts):
        is_pair = tuple(parts[place : place + 2]) == pair
        joined.append(b"".join(pair) if is_pair else parts[place])
        place += 1 + is_pair
    return joined


class Encoder:
    """Converts a text to the numbers of its tokens: in each word the pair that was learnt first is joined first.

    `tokens`: as `learn` returns them. They need no list of pairs: each token arises from one pair alone, since every
    pair is joined wherever it occurs. Raises ValueError if a byte is missing.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self._number = {to_bytes(token): number for number, token in enumerate(tokens)}
        if not all(bytes([byte]) in self._number for byte in range(256)):
            raise ValueError("the tokens of a byte-pair encoding contain all 256 bytes")
        self._known: dict[str, list[int]] = {}  # words

    def encode(self, text: str) -> Iterator[list[int]]:
        """Yield the numbers of the tokens of each word."""
        known = self._known
        for word in words(text):
            numbers = known.get(word)
            if numbers is None:
                numbers = known[word] = [self._number[part] for part in self._split(word)]
            yield numbers

    def _split(self, word: str) -> list[bytes]:
        """Return the tokens of a word."""
        parts, never = _bytes_of(word), len(self._number)
        while len(parts) > 1:
            number, pair = min((self._number.get(a + b, never), (a, b)) for a, b in pairwise(parts))
            if number == never:
                break
            parts = _joined(parts, pair)
        return parts


def _bytes_of(word: str) -> list[bytes]:
    return [bytes([byte]) for byte in to_bytes(word)]


def to_bytes(text: str) -> bytes:
    """Return the bytes of a text, or of a token."""
    return text.encode("utf-8", "surrogateescape")


def to_text(parts: bytes) -> str:
    """Return bytes as text, with a surrogate for each byte that is no part of a character."""
    return parts.decode("utf-8", "surrogateescape")


def readable(tokens: Iterable[str]) -> str:
    """Return the text of tokens, with U+FFFD for bytes that are no character."""
    return to_bytes("".join(tokens)).decode(errors="replace")

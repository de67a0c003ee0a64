"""Byte-pair encoding: learn tokens from a text, and split a text into them, as in the next edition of the book.

A text is split into words by GPT-2's pattern, and a word into its UTF-8 bytes. Then the most frequent pair of adjacent
tokens is merged into one token, repeatedly; no token spans two words. Sennrich, Haddow and Birch, "Neural
machine translation of rare words with subword units", 2016; Radford et al., "Language models are unsupervised multitask
learners", 2019, on bytes.

The package `tokenizers` is not used: it breaks ties differently, so that 14 of the book's 1,024 tokens would differ.
"""

import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from heapq import heappop, heappush
from itertools import pairwise

PART = 1 << 20  # characters split into words at a time
_BETWEEN = re.compile(r"(?<=\S)(?=\s)")  # white space after another character always starts a word
Pair = tuple[bytes, bytes]


def _pattern(other_numbers: str = "") -> re.Pattern[str]:
    """Return GPT-2's pattern, written without \\p{L} (letters) and \\p{N} (numbers), which the standard library lacks.

    `other_numbers`: characters such as ½ that are numbers to Unicode, but letters to the standard library.
    """
    letter, number = rf"[^\W\d_{other_numbers}]", rf"[\d{other_numbers}]"
    return re.compile(rf"'s|'t|'re|'ve|'m|'ll|'d| ?{letter}+| ?{number}+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")


_WORD = _pattern()


@cache
def _patterns_of_other_numbers() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return a pattern of numbers such as ½, and a pattern of words that supports them but is 20 times as slow."""
    found = "".join(c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in ("Nl", "No"))
    return re.compile(f"[{found}]"), _pattern(found)


def words(text: str) -> Iterator[str]:
    """Yield the words of a text; concatenated, they give back the text."""
    start = 0
    while start < len(text):
        end = _BETWEEN.search(text, start + PART)
        part, pattern = text[start : end.start() if end else len(text)], _WORD
        if not part.isascii():
            other_number, slow_pattern = _patterns_of_other_numbers()
            pattern = slow_pattern if other_number.search(part) else _WORD
        yield from pattern.findall(part)
        start += len(part)


def learn(text: str, vocab_size: int) -> list[str]:
    """Return the tokens learned from a text: the 256 bytes, then pairs in the order in which they were merged.

    Of equally frequent pairs, the one that comes first in the text is merged, as in the book. There are fewer than
    `vocab_size` tokens if no pair is left. A token is a str with surrogates for bytes of incomplete characters, as in
    `bytes.decode("utf-8", "surrogateescape")`.
    """
    distinct = Counter(words(text))  # in the order of the text
    word_counts, parts = list(distinct.values()), [_bytes_of(word) for word in distinct]
    pair_counts: Counter[Pair] = Counter()
    places: defaultdict[Pair, set[int]] = defaultdict(set)  # words that contain a pair

    def add(word: int) -> list[Pair]:
        """Count the pairs of a word, and return them."""
        pairs = [*pairwise(parts[word])]
        for pair in pairs:
            pair_counts[pair] += word_counts[word]
            places[pair].add(word)
        return pairs

    def remove(word: int) -> None:
        for pair in pairwise(parts[word]):
            pair_counts[pair] -= word_counts[word]
            places[pair].discard(word)

    def rank(pair: Pair) -> tuple[int, int, int, Pair]:
        """Return a key that is smallest for the next pair to merge: its negated count, then its first place."""
        word = min(places[pair])
        place = [*pairwise(parts[word])].index(pair)
        return -pair_counts[pair], word, sum(map(len, parts[word][:place])), pair

    heap = sorted(map(rank, {pair for word in range(len(parts)) for pair in add(word)}))
    tokens = [bytes([byte]) for byte in range(256)]
    while heap and len(tokens) < vocab_size:
        # A pair may have become rarer, or lost its first place, since the push. Its key only grows: no entry is late.
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
    """Return the parts of a word with each occurrence of a pair merged, from left to right."""
    joined, place = list[bytes](), 0
    while place < len(parts):
        is_pair = tuple(parts[place : place + 2]) == pair
        joined.append(b"".join(pair) if is_pair else parts[place])
        place += 1 + is_pair
    return joined


class Encoder:
    """Converts a text to the numbers of its tokens, merging the pairs of each word in the order they were learned.

    `tokens`: as returned by `learn`; they determine the pairs, since all occurrences of a pair are merged and so each
    token arises from exactly one pair. Raises ValueError if a byte is missing.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self._number = {to_bytes(token): number for number, token in enumerate(tokens)}
        if not all(bytes([byte]) in self._number for byte in range(256)):
            raise ValueError("the tokens of a byte-pair encoding must include all 256 bytes")
        self._known: dict[str, list[int]] = {}  # word -> numbers

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
    """Return the UTF-8 bytes of a text or token."""
    return text.encode("utf-8", "surrogateescape")


def to_text(parts: bytes) -> str:
    """Return bytes as text, with a surrogate for each byte that is not part of a character."""
    return parts.decode("utf-8", "surrogateescape")


def readable(tokens: Iterable[str]) -> str:
    """Return the text of tokens, with U+FFFD for invalid bytes."""
    return to_bytes("".join(tokens)).decode(errors="replace")

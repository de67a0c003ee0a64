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
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from heapq import heapify, heappop, heappush

NONE = -1  # in place of a token: the end of a word, or a token that was merged into the one before
_CONTROLS = r"\x1c-\x1f"  # matched by Python's \s, but not white space in Unicode or GPT-2's pattern
_SPACE, _NOT_SPACE = rf"[^\S{_CONTROLS}]", rf"[\S{_CONTROLS}]"
Pair = tuple[int, int]  # numbers of tokens


@cache
def _pattern(other_numbers: str = "") -> re.Pattern[str]:
    """Return GPT-2's pattern, written without \\p{L} (letters) and \\p{N} (numbers), which the standard library lacks.

    `other_numbers`: characters such as ½ that are numbers to Unicode, but letters to the standard library.
    """
    letter, number, other = rf"[^\W\d_{other_numbers}]", rf"[\d{other_numbers}]", rf"(?:[^\s\w]|[_{_CONTROLS}])"
    return re.compile(
        rf"'s|'t|'re|'ve|'m|'ll|'d| ?{letter}+| ?{number}+| ?{other}+|{_SPACE}+(?!{_NOT_SPACE})|{_SPACE}+"
    )


@cache
def _patterns_of_other_numbers() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return a pattern of numbers such as ½, and a pattern of words that supports them but is 20 times as slow."""
    numbers = "".join(c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in ("Nl", "No"))
    return re.compile(f"[{numbers}]"), _pattern(numbers)


def words(text: str) -> Iterator[str]:
    """Yield the words of a text; concatenated, they give back the text."""
    pattern = _pattern()
    if not text.isascii():
        other_number, slow_pattern = _patterns_of_other_numbers()
        pattern = slow_pattern if other_number.search(text) else pattern
    yield from pattern.findall(text)


def learn(text: str, vocab_size: int) -> list[str]:
    """Return the tokens learned from a text: the 256 bytes, then pairs in the order in which they were merged.

    Of equally frequent pairs, the one that comes first in the text is merged, as in the book. There are fewer than
    `vocab_size` tokens if no pair is left. A token is a str with surrogates for bytes of incomplete characters, as in
    `bytes.decode("utf-8", "surrogateescape")`.
    """
    merges = _Merges(Counter(words(text)))  # distinct words, in the order of the text
    tokens = [bytes([byte]) for byte in range(256)]
    while len(tokens) < vocab_size and (pair := merges.next_pair()):
        merges.merge(pair, len(tokens))
        tokens.append(tokens[pair[0]] + tokens[pair[1]])
    return list(map(to_text, tokens))


class _Merges:
    """The distinct words of a text as linked lists of tokens: merging all pairs of n bytes takes O(n log n).

    A place is the index of a token's first byte in the sequence of all words, with `NONE` between them. `before` and
    `after` link the places of adjacent tokens. All occurrences of a pair arise in one merge, from left to right, and
    later only vanish. So the places of a pair are sorted, and outdated ones are skipped when they are read.
    """

    def __init__(self, word_counts: dict[str, int]) -> None:
        self.tokens = [NONE]
        self.weights = [0]  # number of occurrences of the word at each place
        for word, count in word_counts.items():
            content = to_bytes(word)
            self.tokens += [*content, NONE]
            self.weights += [count] * (len(content) + 1)
        size = len(self.tokens)
        self.before, self.after = [*range(-1, size - 1)], [*range(1, size + 1)]
        self.counts: defaultdict[Pair, int] = defaultdict(int)
        self.places: defaultdict[Pair, deque[int]] = defaultdict(deque)
        for place in range(size - 1):
            self._add(place)
        self.heap = [self._rank(pair) for pair in self.places]
        heapify(self.heap)

    def next_pair(self) -> Pair | None:
        """Remove and return the most frequent pair, on ties the one that comes first; None if no pair is left."""
        while self.heap:
            pushed = heappop(self.heap)
            pair = pushed[-1]
            if not self.counts[pair]:
                continue
            # A pair may have become rarer, or lost its first place, since the push. Its rank only grows, so no entry
            # comes too late.
            rank = self._rank(pair)
            if rank == pushed:
                return pair
            heappush(self.heap, rank)
        return None

    def merge(self, pair: Pair, token: int) -> None:
        """Replace each occurrence of a pair by a token, from left to right."""
        tokens, before, after = self.tokens, self.before, self.after
        new_pairs = set[Pair]()
        for place in self.places.pop(pair):
            second = after[place]
            if (tokens[place], tokens[second]) != pair:
                continue
            first, last = before[place], after[second]
            for left, right in ((first, place), (place, second), (second, last)):
                self.counts[tokens[left], tokens[right]] -= self.weights[place]
            tokens[place], tokens[second] = token, NONE
            after[place], before[last] = last, place
            new_pairs |= {self._add(first), self._add(place)}
        for new_pair in new_pairs:
            if self.counts[new_pair] > 0:
                heappush(self.heap, self._rank(new_pair))

    def _pair(self, place: int) -> Pair:
        """Return the tokens at a place and after it."""
        return self.tokens[place], self.tokens[self.after[place]]

    def _add(self, place: int) -> Pair:
        """Count the pair at a place, unless a word ends there, and return it."""
        pair = self._pair(place)
        if NONE not in pair:
            self.counts[pair] += self.weights[place]
            self.places[pair].append(place)
        return pair

    def _rank(self, pair: Pair) -> tuple[int, int, Pair]:
        """Return a key that is smallest for the next pair to merge: its negated count, then its first place."""
        places = self.places[pair]
        while self._pair(places[0]) != pair:
            places.popleft()
        return -self.counts[pair], places[0], pair


class Encoder:
    """Converts a text to the numbers of its tokens, merging the pairs of each word in the order they were learned.

    `tokens`: as returned by `learn`; they determine the pairs, since all occurrences of a pair are merged and so each
    token arises from exactly one pair. Raises ValueError if a byte is missing.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self._number = {to_bytes(token): number for number, token in enumerate(tokens)}
        if not all(bytes([byte]) in self._number for byte in range(256)):
            raise ValueError("the tokens of a byte-pair encoding must include all 256 bytes")
        self._numbers: dict[str, list[int]] = {}  # of the tokens of a word

    def encode(self, text: str) -> Iterator[list[int]]:
        """Yield the numbers of the tokens of each word."""
        cache = self._numbers
        for word in words(text):
            numbers = cache.get(word)
            if numbers is None:
                numbers = cache[word] = [self._number[part] for part in self._split(word)]
            yield numbers

    def _split(self, word: str) -> list[bytes]:
        """Return the tokens of a word: merge the adjacent pair that was learned first, until none is left.

        A word of n bytes takes O(n log n); a language without spaces has words of any length.
        """
        content = to_bytes(word)
        end = len(content)
        # A token is the bytes from its place to the next token's. The one after the last token, or after a token that
        # was merged into the one before, is `end`; after `end` is `NONE`, which as an index finds `NONE` again.
        before, after = [*range(-1, end)], [*range(1, end + 1), NONE]
        merges: list[tuple[int, int, int]] = []  # a heap: number of the merged token, its place, the place after it

        def offer(place: int) -> None:
            """Add the merge of the token at a place and the next one, if the result is a token."""
            stop = after[after[place]]
            if stop != NONE and (number := self._number.get(content[place:stop])) is not None:
                heappush(merges, (number, place, stop))

        for place in range(end):
            offer(place)
        while merges:
            _, place, stop = heappop(merges)
            second = after[place]
            if after[second] != stop:  # one of both tokens was merged with another
                continue
            after[place], after[second], before[stop] = stop, end, place
            offer(before[place])
            offer(place)
        parts, place = list[bytes](), 0
        while place < end:
            parts.append(content[place : after[place]])
            place = after[place]
        return parts


def to_bytes(text: str) -> bytes:
    """Return the UTF-8 bytes of a text or token."""
    return text.encode("utf-8", "surrogateescape")


def to_text(parts: bytes) -> str:
    """Return bytes as text, with a surrogate for each byte that is not part of a character."""
    return parts.decode("utf-8", "surrogateescape")


def readable(tokens: Iterable[str]) -> str:
    """Return the text of tokens, with U+FFFD for invalid bytes."""
    return to_bytes("".join(tokens)).decode(errors="replace")

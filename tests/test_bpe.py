"""Byte-pair encoding, compared with plain code that recounts all pairs for each token."""

import unicodedata
from collections import Counter
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.texts import read
from timemachine import bpe

REPETITIVE = st.text("ab c\n", max_size=60)
TEXTS = st.text(st.one_of(st.sampled_from("ab'st ½²Ⅷ_é\u0301\n\t\x1c。"), st.characters()))


def plain_learn(text: str, vocab_size: int) -> list[bytes]:
    """Merge the most frequent pair, on ties the one that comes first."""
    words = Counter(bpe.words(text))
    parts = {word: [bytes([byte]) for byte in bpe.to_bytes(word)] for word in words}
    tokens = [bytes([byte]) for byte in range(256)]
    while len(tokens) < vocab_size:
        counts: Counter[tuple[bytes, bytes]] = Counter()
        for word, number in words.items():
            for pair in pairwise(parts[word]):
                counts[pair] += number
        if not counts:
            break
        best = max(counts, key=counts.__getitem__)  # the first one, since a dict keeps its order
        tokens.append(b"".join(best))
        parts = {word: joined(it, best) for word, it in parts.items()}
    return tokens


def joined(parts: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    merged: list[bytes] = []
    while parts:
        size = 2 if tuple(parts[:2]) == pair else 1
        merged.append(b"".join(parts[:size]))
        parts = parts[size:]
    return merged


def encode(tokens: list[str], text: str) -> list[int]:
    return [number for word in bpe.Encoder(tokens).encode(text) for number in word]


@given(REPETITIVE)
@example("aaaa aaa aa baaab")
@example("abab ababab bab")
@example(read("german")[:4000] + read("chinese")[:4000])
def test_learn(text: str) -> None:
    assert [*map(bpe.to_bytes, bpe.learn(text, 330))] == plain_learn(text, 330)


@given(REPETITIVE, REPETITIVE)
@example(read("chinese")[:3000], read("chinese")[2000:4000].replace("。", "语"))  # words of many tokens
def test_encode(known: str, text: str) -> None:
    """Earlier tokens are merged first, in the order of learning."""
    tokens = bpe.learn(known, 290)
    numbers = {token: number for number, token in enumerate(map(bpe.to_bytes, tokens))}
    expected = []
    for word in bpe.words(text):
        parts = [bytes([byte]) for byte in bpe.to_bytes(word)]
        for token in tokens[256:]:  # in the order of learning
            while pairs := [pair for pair in pairwise(parts) if b"".join(pair) == bpe.to_bytes(token)]:
                parts = joined(parts, pairs[0])
        expected += [numbers[part] for part in parts]
    assert encode(tokens, text) == expected


def test_a_long_word() -> None:
    """Of 120,000 bytes: where the time grows with the square of a word's length, it takes minutes to hours."""
    word = "".join(chr(0x4E00 + number * number % 997) for number in range(40_000))
    tokens = bpe.learn(word, 1024)
    numbers = encode(tokens, word)
    assert len(tokens) == 1024 and len(numbers) < 40_000
    assert bpe.readable(tokens[number] for number in numbers) == word


@given(st.binary(), st.binary())
def test_round_trip_of_any_bytes(known: bytes, other: bytes) -> None:
    tokens = bpe.learn(bpe.to_text(known), 300)
    for content in (known, other, known + other):
        found = "".join(tokens[number] for number in encode(tokens, bpe.to_text(content)))
        assert bpe.to_bytes(found) == content


@given(TEXTS)
@example("I'll  go,\n\nit's ½ of ２²  ")
@example(" \x1c\x1d a\x1e \x1f\n")  # white space to Python's \\s, but not to GPT-2's pattern
def test_words(text: str) -> None:
    """Compare GPT-2's pattern with a loop over characters."""
    kinds = ["L", "N", "space", "other"]

    def kind(character: str) -> str:
        category = unicodedata.category(character)
        if category[0] in "LN":
            return category[0]
        return kinds[2] if character.isspace() and character not in "\x1c\x1d\x1e\x1f" else kinds[3]

    expected, at = list[str](), 0
    while at < len(text):
        suffix = next((it for it in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d") if text.startswith(it, at)), None)
        start = at + (text[at] == " " and at + 1 < len(text) and kind(text[at + 1]) != "space")
        stop = start
        while stop < len(text) and kind(text[stop]) == kind(text[start]):
            stop += 1
        if suffix:
            stop = at + len(suffix)
        elif kind(text[start]) == "space" and stop < len(text) and stop - at > 1:
            stop -= 1  # the last space belongs to the next word
        expected.append(text[at:stop])
        at = stop
    assert [*bpe.words(text)] == expected

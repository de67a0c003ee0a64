"""A text that stays in its files gives what the same text gives in memory, wherever its parts are cut."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from timemachine import corpus
from timemachine.config import Tokens
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import TimeMachine, WindowLoader
from timemachine.errors import SettingError
from timemachine.texts import large
from timemachine.vocab import Vocab

LINE_ENDS = [b"\n", b"\n\n", b"\r\n", b"\r", b"\n \t\n", b"\r\n\r\n", b" ", b""]
PIECES = [
    b"*** START OF THE PROJECT GUTENBERG EBOOK IT ***", b"*** END OF IT ***", b"***START OF", b"*** END OF A LONG",
    b"TITLE ***", b"***", b"* * *", b"End of Project Gutenberg's It", b"END OF THE PROJECT GUTENBERG", b"end of project",
    b"It has", b"  a time,", b"Zo\xc3\xab 12", b"e\xcc\x81\xcc\xa7", b"\xcc\x81", b"\xe1\x84\x80\xe1\x85\xa1", b"\xef\xbb\xbf",
    b"\xe4\xb8\xad\xe6\x96\x87", b"\xf0\x9f\x98\x80", b"x" * 101 + b" " + b"y" * 40,
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES + LINE_ENDS * 2), max_size=24).map(b"".join)
_number = itertools.count()


@contextlib.contextmanager
def read_as_large(part: int) -> Iterator[None]:
    with patch.object(corpus, "LARGE", -1), patch.object(large, "PART", part):
        yield


def files(texts: list[bytes]) -> list[str]:
    """Write the texts into new files: an index is found by path, size and time."""
    paths = [Path(f"{next(_number)}.txt").resolve() for _ in texts]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text)
    return list(map(str, paths))


def found(paths: list[str], tokens: Tokens) -> Corpus | str:
    try:
        return find_corpus(paths, [], tokens)
    except SettingError as error:
        return str(error).partition(" (byte")[0]


@settings(max_examples=300)
@given(st.lists(TEXTS, min_size=1, max_size=3), st.integers(1, 40), st.sampled_from(Tokens))
@example([b"\xef\xbb\xbf*** START OF IT\nTWO ***\nIt\n\nEnd of Project Gutenberg\n \nno"], 7, Tokens.letters)
@example([b"a\n\n\nEnd of Project Gutenberg\na\n\n \n*** END OF IT\n*** START OF IT\nb"], 1, Tokens.characters)
def test_parts_give_the_whole(texts: list[bytes], part: int, tokens: Tokens) -> None:
    paths = files(texts)
    whole = found(paths, tokens)
    with read_as_large(part):
        parts = found(paths, tokens)
        if isinstance(whole, str) or isinstance(parts, str):
            assert parts == whole
            return
        text, length = whole.characters, len(whole.characters)
        assert (len(parts.characters), "".join(parts.characters)) == (length, text)
        assert (parts.sha256, parts.left_out, parts.paths) == (whole.sha256, whole.left_out, whole.paths)
        for start, stop in ((0, length), (length // 3, length // 2), (-2, None)):
            assert parts.characters[start:stop] == text[start:stop]
            assert parts.rotated(length // 3).characters[start:stop] == whole.rotated(length // 3).characters[start:stop]
        for start, min_count in ((0, 1), (length // 2, 2 if tokens is Tokens.characters and length > 60 else 1)):
            ours, theirs = (it.rotated(start).characters for it in (parts, whole))
            with contextlib.suppress(SettingError):
                vocab, other = (Vocab.of(it, tokens, min_count) for it in (ours, theirs))
                assert (vocab.idx_to_token, vocab.num_unknown) == (other.idx_to_token, other.num_unknown)
                assert torch.equal(vocab.encode(ours), other.encode(theirs))
                assert vocab.num_unknown == int((other.encode(theirs) == vocab.unk).sum())

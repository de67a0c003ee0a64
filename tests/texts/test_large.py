"""A memory-mapped text has the same characters, vocabulary and indices as in memory."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.programs import assert_succeeded, call_program
from tests.support.texts import path_of
from timemachine import corpus
from timemachine.config import Tokens, Training
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import TimeMachine, WindowLoader
from timemachine.errors import SettingError
from timemachine.evaluation import scores
from timemachine.exercises import probes
from timemachine.how_low import train_loader
from timemachine.perplexity import count_unknown
from timemachine.run.record import read_summary
from timemachine.texts import large
from timemachine.vocab import Vocab

LINE_ENDS = [b"\n", b"\n\n", b"\r\n", b"\r", b"\n \t\n", b"\r\n\r\n", b" ", b""]
PIECES = [
    b"*** START OF THE PROJECT GUTENBERG EBOOK IT ***", b"*** END OF IT ***", b"***START OF", b"*** END OF A LONG",
    b"TITLE ***", b"***", b"* * *", b"End of Project Gutenberg's It", b"END OF THE PROJECT GUTENBERG", b"end of it",
    b"It has", b"  a time,", b"Zo\xc3\xab 12", b"e\xcc\x81\xcc\xa7", b"\xcc\x81", b"\xe1\x84\x80\xe1\x85\xa1",
    b"\xef\xbb\xbf", b"\xe4\xb8\xad\xe6\x96\x87", b"\xf0\x9f\x98\x80", b"x" * 101 + b" " + b"y" * 40,
    b"eE" + b"ACGT" * 60 + b"\xcc\x81",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES + LINE_ENDS * 2), max_size=24).map(b"".join)
_number = itertools.count()


@contextlib.contextmanager
def read_as_large(part: int) -> Iterator[None]:
    with patch.object(corpus, "LARGE", -1), patch.object(large, "PART", part):
        yield


def files(texts: list[bytes]) -> list[str]:
    """Write the texts to new files, since an index is looked up by path, size and time."""
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
@given(st.lists(TEXTS, min_size=1, max_size=3), st.integers(1, 40), st.sampled_from([*Tokens][:2]))
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
            assert (
                parts.rotated(length // 3).characters[start:stop] == whole.rotated(length // 3).characters[start:stop]
            )
        for start, min_count in ((0, 1), (length // 2, 2 if tokens is Tokens.characters and length > 60 else 1)):
            ours, theirs = (it.rotated(start).characters for it in (parts, whole))
            with contextlib.suppress(SettingError):
                vocab, other = (Vocab.of(it, tokens, min_count) for it in (ours, theirs))
                assert vocab.idx_to_token == other.idx_to_token
                assert torch.equal(vocab.encode(ours), other.encode(theirs))
                assert count_unknown(ours, vocab) == count_unknown(theirs, other)
                assert count_unknown(theirs, other)[0] == int((other.encode(theirs) == vocab.unk).sum())
                assert Vocab.of(ours, tokens, min_count).idx_to_token == vocab.idx_to_token  # a second time


@pytest.mark.parametrize("text", [b"a\0b", b"a caf\xe9 \n" * 9, b"\n \t\n"], ids=["NUL", "Latin-1", "empty"])
def test_unreadable_large_texts(text: bytes) -> None:
    (path,) = files([text])
    expected = found([path], Tokens.characters)
    with read_as_large(4):
        assert found([path], Tokens.characters) == expected and str(expected).startswith(f"data.corpus={path}: ")


def test_index_is_reused(capsys: pytest.CaptureFixture[str]) -> None:
    """Only an intact index of an unchanged file is reused."""
    (path,) = files([b"It has"])
    with read_as_large(4):
        for text, lines in ((b"It has", 2), (b"It has", 0), (b"It was", 2)):
            Path(path).write_bytes(text) if text != Path(path).read_bytes() else None
            data = TimeMachine(2, 1, 2, 1, corpus=path)
            assert data.vocab.decode(data.tokens_N.tolist()) == text.decode().lower()
            assert len(capsys.readouterr().err.splitlines()) == lines


def test_a_file_that_changes_meanwhile() -> None:
    """No indices of the new text are cached for the previous one."""
    (path,) = files([b"It has been a time"])
    for text in (b"It was been a time", b"It"):
        Path(path).write_bytes(b"It has been a time")
        with read_as_large(4):
            before = find_corpus(path, [])
            Path(path).write_bytes(text)
            os.utime(path, (9, 9))  # two writes may have the same time
            with pytest.raises(SettingError, match=rf"^data\.corpus={path}: [^\n]*$"):
                Vocab.of(before.characters).encode(before.characters)
    assert not [*Path(os.environ["XDG_CACHE_HOME"], "timemachine/large").glob("*.uint8")]


@pytest.mark.parametrize("world_size", [1, 3])
def test_windows_are_drawn(world_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there are too many windows to permute, each epoch samples as many, equally in all processes."""
    monkeypatch.setattr("timemachine.datamodule.MAX_PERMUTED", 50)
    windows_NT = torch.arange(103).unfold(0, 4, 1)

    def epochs(generator: torch.Generator, rank: int, world_size: int) -> list[list[list[int]]]:
        loader = WindowLoader(windows_NT, 8, generator, rank, world_size)
        return [[X_BT[:, 0].tolist() for X_BT, _ in loader] for _ in range(2)]

    alone = epochs(torch.Generator().manual_seed(0), 0, 1)
    shares = [epochs(torch.Generator().manual_seed(0), rank, world_size) for rank in range(world_size)]
    for number, epoch in enumerate(alone):
        assert [len(batch) for batch in epoch] == [8] * 12 + [4] and {*chain(*epoch)} <= {*range(100)}
        for index, batch in enumerate(epoch):
            assert [rank[number][index] for rank in shares] == [batch[rank::world_size] for rank in range(world_size)]
    assert alone[0] != alone[1]
    resumed, state = torch.Generator().manual_seed(0), torch.Generator()
    epochs(resumed, 0, 1)
    state.set_state(resumed.get_state())  # as saved in a checkpoint
    assert epochs(state, 0, 1) == epochs(resumed, 0, 1)


def test_whole_text_readers_are_rejected(sample: Corpus) -> None:
    with read_as_large(1000):
        data = TimeMachine(8, 4, None, None, corpus=str(sample.paths[0]))
    with pytest.raises(SettingError, match=r"^training\.teacher=1: [^\n]*$"):
        train_loader(data, Training(carry_state=True, teacher=1))
    with pytest.raises(SettingError, match=r"^probes=\[stream\]: [^\n]*$"):
        probes.check(["stream"], data.corpus)
    with patch.object(scores, "MAX_SCORED", 1000), pytest.raises(SettingError, match=r"^data\.corpus=[^\n]*$"):
        scores.as_trained({"settings": {"data": {"num_steps": 4}}}, data.corpus, data.vocab)


def test_byte_pairs_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("some text")
    with read_as_large(1000), pytest.raises(SettingError, match=r"^data\.corpus=[^\n]*$"):
        find_corpus(str(tmp_path / "text.txt"), [], Tokens.bpe)


@pytest.mark.usefixtures("quick_calls")
def test_runs_have_the_same_numbers() -> None:
    """The prefix has characters outside of the alphabet, so a part of the text replaces it."""
    settings = [f"data.corpus={path_of('chinese')}", "data.tokens=characters", "data.min_count=2", "data.start=30"]
    small = ["data.num_train=200", "data.num_val=100", "trainer.max_epochs=2", "logger=csv", "trainer=cpu"]
    assert_succeeded(call_program("train.py", *settings, *small, "hydra.run.dir=memory"))
    with read_as_large(100):
        assert_succeeded(call_program("train.py", *settings, *small, "hydra.run.dir=files"))
    memory, files = (read_summary(Path(name)) for name in ("memory", "files"))
    assert memory["corpus"] == files["corpus"]
    for name in ("train/perplexity", "val/perplexity", "test/perplexity"):
        assert memory["metrics"][name] == files["metrics"][name]
    assert Path("memory/sample.txt").read_bytes() == Path("files/sample.txt").read_bytes()

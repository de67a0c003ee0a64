from collections import Counter
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.support.texts import path_of, read
from timemachine.config import Tokens
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import TimeMachine, WindowLoader
from timemachine.errors import SettingError
from timemachine.vocab import Vocab


def letters(folder: Path, length: int) -> Corpus:
    """Return a text of `length` characters."""
    path = folder / "text.txt"
    path.write_text(("abcdefghij" * (length // 10 + 1))[:length])
    return find_corpus(str(path), [])


def numbers(length: int, num_steps: int) -> Tensor:
    """Return windows over 0, 1, 2, …, so that each shows its start."""
    return torch.arange(length).unfold(0, num_steps + 1, 1)


# --- The book ---


def test_the_books_numbers(novels: Path) -> None:
    data = TimeMachine(corpus=find_corpus("time_machine", [str(novels)]))
    assert (data.batch_size, data.num_steps, len(data.vocab)) == (1024, 32, 28)
    splits = data.splits
    assert (splits["train"].starts, splits["val"].starts) == (range(10_000), range(10_000, 15_000))
    assert splits["test"].starts == range(15_032, 173_428 - 32)
    # Of a stream: each target once, and no target from a window of another split.
    assert splits["val"].targets == range(10_032, 15_032)
    assert splits["test"].targets == range(15_032, 173_428)
    assert [X_BT.shape for X_BT, _ in data.train_dataloader()] == [(1024, 32)] * 9 + [(784, 32)]


# --- Windows ---


def test_byte_pairs_of_the_training_windows() -> None:
    """Pairs are learned from the bytes that these windows cover, with the tokens of the whole text."""
    text, windows = read("german"), (64, 8, 200, 100)
    whole = TimeMachine(*windows, tokens="bpe", vocab_size=300, corpus=str(path_of("german")))
    data = TimeMachine(*windows, tokens="bpe", vocab_size=300, learn_on="train", corpus=str(path_of("german")))
    known = int(whole.vocab.bytes_V[whole.tokens_N[:208].long()].sum())
    covered = text.encode()[:known].decode(errors="replace")
    assert data.vocab.idx_to_token == Vocab.of(covered, Tokens.bpe, vocab_size=300).idx_to_token
    assert data.vocab.idx_to_token != whole.vocab.idx_to_token
    assert data.vocab.decode(data.tokens_N.tolist()) == text


@pytest.mark.parametrize(("length", "num_steps", "batch_size"), [(50, 7, 8), (9, 8, 1024)])
def test_each_window_once_an_epoch(length: int, num_steps: int, batch_size: int) -> None:
    num_windows = length - num_steps
    loader = WindowLoader(numbers(length, num_steps), batch_size, torch.Generator().manual_seed(0))
    for _ in range(3):
        batches = list(loader)
        assert len(batches) == len(loader) == -(-num_windows // batch_size)
        sizes = [len(X_BT) for X_BT, _ in batches]
        assert sizes == [loader.global_size(index) for index in range(len(loader))]
        X_NT, Y_NT = (torch.cat(parts) for parts in zip(*batches, strict=True))
        assert sorted(X_NT[:, 0].tolist()) == list(range(num_windows))
        assert torch.equal(X_NT, X_NT[:, :1] + torch.arange(num_steps))
        assert torch.equal(Y_NT, X_NT + 1)


def test_order_of_epochs(sample: Corpus) -> None:
    def epochs(seed: int) -> list[Tensor]:
        data = TimeMachine(batch_size=3000, num_train=3000, corpus=sample, seed=seed)
        return [next(iter(data.train_dataloader()))[0] for _ in range(2)]

    torch.manual_seed(1)
    first, second = epochs(seed=0)
    torch.manual_seed(2)  # the order depends only on its own seed
    assert all(map(torch.equal, epochs(seed=0), (first, second)))
    assert not torch.equal(first, second) and not torch.equal(first, epochs(seed=1)[0])


@given(st.integers(0, 299), st.booleans())
def test_start_rotates_the_text(start: int, is_whole: bool) -> None:
    text = Corpus("text", "A Text", "text", (), "".join(chr((7 * n * n + n) % 26 + 97) for n in range(300)), "0")
    rotated = replace(text, characters=(2 * text.characters)[start : start + 300])
    cut = {"num_train": None, "num_val": None} if is_whole else {"num_train": 100, "num_val": 50}
    later, by_hand = (TimeMachine(32, 8, **cut, corpus=text, start=start), TimeMachine(32, 8, **cut, corpus=rotated))
    assert later.splits == by_hand.splits and later.corpus.sha256 == text.sha256
    for split in later.splits:
        for ours, theirs in zip(later.windows(split), by_hand.windows(split), strict=True):
            assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


# --- The Trainer's arguments ---


# --- Several processes ---


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 5), st.booleans())
def test_shares_of_a_batch(num_windows: int, batch_size: int, world_size: int, shuffles: bool) -> None:
    def loader(rank: int, world_size: int) -> WindowLoader:
        generator = torch.Generator().manual_seed(7) if shuffles else None
        return WindowLoader(numbers(num_windows + 3, 3), batch_size, generator, rank, world_size)

    def starts(loader: WindowLoader) -> list[list[int]]:
        return [X_BT[:, 0].tolist() for X_BT, _ in loader]

    alone = starts(loader(0, 1))
    ranks = [loader(rank, world_size) for rank in range(world_size)]
    assert {len(rank) for rank in ranks} == {len(alone)}  # otherwise a process would wait forever
    for index, (batch, *shares) in enumerate(zip(alone, *map(starts, ranks), strict=True)):
        assert Counter(chain(*shares)) == Counter(batch)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        assert {rank.global_size(index) for rank in ranks} == {len(batch)}


# --- Splits ---


@pytest.mark.parametrize(("length", "num_steps"), [(1001, 49), (40, 1)])
def test_splits_of_a_whole_text(tmp_path: Path, length: int, num_steps: int) -> None:
    data = TimeMachine(8, num_steps, None, None, corpus=letters(tmp_path, length))
    borders = [0, length * 90 // 100, length * 95 // 100, length]
    held: list[set[int]] = []
    for name, first, last in zip(("train", "val", "test"), borders, borders[1:], strict=False):
        split = data.splits[name]
        assert split.starts == range(first, last - num_steps)  # the last window ends at the boundary
        assert split.targets == range(max(first, 1), last)
        held.append({start + step for start in split.starts for step in range(1, num_steps + 1)})
        assert held[-1] <= set(split.targets)
    assert not held[0] & held[1] and not held[1] & held[2] and not held[0] & held[2]


@pytest.mark.parametrize(
    ("length", "cut", "named"),
    [
        (32, {}, "data.num_train=10000"),
        (99, {"num_steps": 5, "num_train": 60, "num_val": 35}, "data.num_train=60"),
        (200, {"num_steps": 10, "num_train": None, "num_val": None}, "data.num_steps=10"),
    ],
)
def test_a_text_too_short(tmp_path: Path, length: int, cut: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingError, match=rf"^{named}\b[^\n]*$"):
        TimeMachine(corpus=letters(tmp_path, length), **cut)

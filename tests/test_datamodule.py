from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.runs import fit, rows
from tests.support.texts import path_of, read
from timemachine.config import Tokens
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import TimeMachine, WindowLoader
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab


def letters(length: int) -> Corpus:
    return Corpus("text", "A Text", "text.txt", (), ("abcdefghij" * length)[:length])


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


# --- Several processes ---


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 5), st.booleans())
def test_shares_of_a_batch(num_windows: int, batch_size: int, world_size: int, shuffles: bool) -> None:
    def loader(rank: int, world_size: int) -> WindowLoader:
        generator = torch.Generator().manual_seed(7) if shuffles else None
        windows_NT = torch.arange(num_windows + 3).unfold(0, 4, 1)  # each shows its start
        return WindowLoader(windows_NT, batch_size, generator, rank, world_size)

    def starts(loader: WindowLoader) -> list[list[int]]:
        return [X_BT[:, 0].tolist() for X_BT, _ in loader]

    alone = starts(loader(0, 1))
    ranks = [loader(rank, world_size) for rank in range(world_size)]
    assert {len(rank) for rank in ranks} == {len(alone)}  # otherwise a process would wait forever
    for index, (batch, *shares) in enumerate(zip(alone, *map(starts, ranks), strict=True)):
        assert Counter(chain(*shares)) == Counter(batch)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
        assert {rank.global_size(index) for rank in ranks} == {len(batch)}


def test_each_fit_draws_its_epochs_from_the_seed(sample: Corpus, tmp_path: Path) -> None:
    data, losses = TimeMachine(64, 8, 200, 100, corpus=sample, seed=3), []
    for name in ("first", "second"):
        torch.manual_seed(0)
        fit(tmp_path / name, RNNLMScratch(len(data.vocab), hiddens=4), data, max_epochs=2)
        losses.append([row["loss"] for row in rows(tmp_path / name / "steps.csv")])
    assert losses[0] == losses[1]


@pytest.mark.parametrize(("name", "fraction"), [("limit_test_batches", 0.001), ("overfit_batches", 0.1)])
def test_a_fraction_without_a_batch_is_rejected_before_training(
    name: str, fraction: float, sample: Corpus, tmp_path: Path
) -> None:
    data, setting = TimeMachine(64, 8, 200, 100, corpus=sample), {name: fraction}
    with pytest.raises(SettingError, match=rf"^trainer\.{name}={fraction}: "):
        fit(tmp_path, RNNLMScratch(len(data.vocab), hiddens=4), data, max_epochs=1, **setting)  # type: ignore[arg-type]
    assert not (tmp_path / "steps.csv").exists()


@pytest.mark.parametrize("tokens", ["letters", "characters"])
def test_a_text_from_python(tokens: str, tmp_path: Path) -> None:
    """A string is read as a file is, and a checkpoint records its hash, not the text."""
    text = "It was 1895: a café, at last!\r\n" * 30
    (tmp_path / "text.txt").write_text(text, encoding="utf-8", newline="")
    windows: dict[str, Any] = {"num_steps": 8, "num_train": 100, "num_val": 50, "tokens": tokens}
    data, of_file = TimeMachine(text=text, **windows), TimeMachine(corpus=str(tmp_path / "text.txt"), **windows)
    assert torch.equal(data.tokens_N, of_file.tokens_N) and data.vocab.idx_to_token == of_file.vocab.idx_to_token
    assert "text" not in data.hparams and data.state_dict()["sha256"] == of_file.state_dict()["sha256"]
    with pytest.raises(SettingError, match=r"^data\.corpus=text: "):
        TimeMachine(text="  ", **windows)


# --- Splits ---


@pytest.mark.parametrize(("length", "num_steps"), [(1001, 49), (40, 1)])
def test_splits_of_a_whole_text(length: int, num_steps: int) -> None:
    data = TimeMachine(8, num_steps, None, None, corpus=letters(length))
    borders = [0, length * 90 // 100, length * 95 // 100, length]
    for name, first, last in zip(("train", "val", "test"), borders, borders[1:], strict=False):
        split = data.splits[name]
        assert split.starts == range(first, last - num_steps)  # the last window ends at the boundary
        assert split.targets == range(max(first, 1), last)


@pytest.mark.parametrize(
    ("length", "cut", "named"),
    [
        (32, {}, "data.num_train=10000"),
        (99, {"num_steps": 5, "num_train": 60, "num_val": 35}, "data.num_train=60"),
        (200, {"num_steps": 10, "num_train": None, "num_val": None}, "data.num_steps=10"),
    ],
)
def test_a_text_too_short(length: int, cut: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingError, match=rf"^{named}\b[^\n]*$"):
        TimeMachine(corpus=letters(length), **cut)

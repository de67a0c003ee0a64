"""TimeMachine(LightningDataModule): text -> tokens -> windows -> batches.

N tokens, which the book takes one character each, T time steps, B windows in a batch. A window is T inputs and the T
tokens that follow each of them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Generator, Tensor

from timemachine import bpe
from timemachine.config import Data, LearnOn, Tokens, format_value, require
from timemachine.corpus import DEFAULT, Corpus, find_corpus
from timemachine.errors import SettingError
from timemachine.vocab import Vocab

Batch = tuple[Tensor, Tensor]
MAX_PERMUTED = 1 << 30  # windows; a permutation of more would take 4 GB and has no place in an int32
AT_ONCE = 1 << 18  # logits of a time step at most, where windows are read and nothing is learnt from them


class Split(NamedTuple):
    """A part of the text: `starts`, the first input of each window; `targets`, what a stream predicts, each once."""

    starts: range
    targets: range


class TimeMachine(LightningDataModule):
    """The corpus as windows that start at every character, like the book's `d2l.TimeMachine(batch_size, num_steps)`.

    The first `num_train` windows train, the next `num_val` validate, what neither has touched tests: windows from token
    num_train + num_val + T on. With both None, 90 % of the tokens train, 5 % validate, 5 % test, and no window crosses
    a border. `start`: rotate the text to start at this character, so that other windows train. `corpus`: a text, or
    what `data.corpus` may be, which is then read as `tokens` says. Characters that the text has fewer than `min_count`
    times are `<unk>`; of byte pairs there are `vocab_size`, learnt from the whole text, as the book does, or from what
    the training windows cover. `train_loader`: makes another loader of the training batches from this object, with
    `global_size` as WindowLoader has it; the windows in a new order each epoch if None. Raises SettingError for an
    invalid number, a text that is not found, and one that is too short.
    """

    def __init__(
        self,
        batch_size: int = 1024,
        num_steps: int = 32,
        num_train: int | None = 10_000,
        num_val: int | None = 5_000,
        start: int = 0,
        tokens: Tokens = Tokens.letters,
        min_count: int = 1,
        vocab_size: int = 1024,
        learn_on: LearnOn = LearnOn.text,
        *,
        corpus: Corpus | str | list[str] = DEFAULT,
        seed: int = 0,
        train_loader: "Callable[[TimeMachine], Any] | None" = None,
    ) -> None:
        super().__init__()
        settings = Data(
            batch_size=batch_size, num_steps=num_steps, num_train=num_train, num_val=num_val, start=start,
            tokens=tokens, min_count=min_count, vocab_size=vocab_size, learn_on=learn_on,
        )  # fmt: skip
        self.batch_size, self.num_steps, self.start = batch_size, num_steps, start
        self.seed, self._train_loader = seed, train_loader
        text = corpus if isinstance(corpus, Corpus) else find_corpus(corpus, settings.search_dirs, settings.tokens)
        num_chars = len(text.characters)
        require(start < num_chars, "data.start", start, f"the text has {num_chars} characters", 0)
        self.corpus = text.rotated(start)
        self.generator = Generator().manual_seed(seed)  # of the order of the training windows
        self.vocab = Vocab.of(self.corpus.characters, self.corpus.tokens, min_count, vocab_size)
        self._encode(settings)
        if settings.learn_on is LearnOn.train:
            # Once: the training windows of the new tokens cover a few characters more or fewer.
            known_N = self.tokens_N[: self.splits["train"].targets.stop].tolist()
            known = bpe.to_text(bpe.to_bytes("".join(self.vocab.to_tokens(known_N))))  # whole characters again
            self.vocab = Vocab.of(known, self.corpus.tokens, min_count, vocab_size)
            self._encode(settings)

    def _encode(self, settings: Data) -> None:
        """Encode the text with the vocabulary, and split it. Raise SettingError for one that is too short."""
        num_steps = settings.num_steps
        self.tokens_N = self.vocab.encode(self.corpus.characters)
        if len(self.tokens_N) <= num_steps:
            rule = f"has {len(self.tokens_N)} {self.unit}, a window of data.num_steps={num_steps} needs {num_steps + 1}"
            name = format_value(self.corpus.source)
            raise SettingError(f"data.corpus={name}: {rule}; type the path of a longer text")
        self.splits = _split(len(self.tokens_N), num_steps, settings.num_train, settings.num_val, self.unit)

    @property
    def unit(self) -> str:
        """Return what a token is called: characters, or tokens."""
        return "tokens" if self.corpus.tokens is Tokens.bpe else "characters"

    @property
    def chars_per_token(self) -> float:
        """Return the mean number of characters of a token."""
        return len(self.corpus.characters) / len(self.tokens_N)

    def __str__(self) -> str:
        windows = ", ".join(f"{len(split.starts):,} {name}" for name, split in self.splits.items())
        text = f"{self.corpus.title}, {len(self.tokens_N):,} {self.unit} of {len(self.vocab)} kinds"
        return f"TimeMachine({text}; windows of {self.num_steps}: {windows}; {self.batch_size:,} a batch)"

    def train_dataloader(self) -> Any:
        """Return the batches of the training windows, in a new order each epoch; see `order`."""
        loader = self._train_loader
        return loader(self) if loader else self.windows("train", self.batch_size, self.order())

    def order(self) -> Generator | None:
        """Return the generator of each epoch's order; None, for the order of the text, with `overfit_batches`."""
        return None if getattr(self.trainer, "overfit_batches", 0) else self.generator

    def val_dataloader(self) -> "WindowLoader":
        """Return the batches of the validation windows, in the order of the text."""
        return self._held_out("val")

    def test_dataloader(self) -> "WindowLoader":
        """Return the batches of the test windows, in the order of the text; none where the text ends before."""
        return self._held_out("test")

    def _held_out(self, split: str) -> "WindowLoader":
        """Return batches of `batch_size` where the Trainer limits their number, larger ones without a limit."""
        limit = getattr(self.trainer, f"limit_{split}_batches", 1.0)
        return self.windows(split, self.batch_size if isinstance(limit, int) or limit < 1 else None)

    def windows(self, split: str, batch_size: int | None = None, generator: Generator | None = None) -> "WindowLoader":
        """Return this process' share of the windows of a split, in the generator's order or that of the text.

        `batch_size`: by default the size that evaluation reads fastest, which is larger than `data.batch_size`.
        """
        starts = self.splits[split].starts
        rank, world_size = self.share()
        if generator is not None and len(starts) > MAX_PERMUTED and rank == 0:
            print(f"windows       {len(starts):,}, too many to permute: an epoch draws as many, and some of them twice")
        windows_NT = self.tokens_N.unfold(0, self.num_steps + 1, 1)[starts.start : starts.stop]
        size = batch_size or max(self.batch_size, AT_ONCE // max(len(self.vocab), 256))
        return WindowLoader(windows_NT, size, generator, rank, world_size)

    def share(self) -> tuple[int, int]:
        """Return this process' number and how many there are. Move the text to its device, where batches are taken."""
        if self.trainer is None:
            return 0, 1
        if not self.corpus.is_large:  # a large text stays where it is, and each batch is moved
            self.tokens_N = self.tokens_N.to(self.trainer.strategy.root_device)
        return self.trainer.global_rank, self.trainer.world_size

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint has to say: the vocabulary, which text, and the next epoch's order."""
        vocab, order = self.vocab, self.generator.get_state()
        return {"tokens": vocab.idx_to_token, "kind": vocab.kind.name, "sha256": self.corpus.sha256, "generator": order}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on in the order of the run that was interrupted."""
        self.generator.set_state(state_dict["generator"])


def targets_per_process(trainer: Trainer, batch: Batch, batch_idx: int) -> float:
    """Return the number of targets in a training batch; of several processes, whose shares may differ, the mean."""
    loader: Any = trainer.train_dataloader
    if trainer.world_size == 1 or not hasattr(loader, "global_size"):  # the shares of a DataLoader are alike
        return batch[1].numel()
    return float(loader.global_size(batch_idx) * batch[1].shape[1] / getattr(loader, "world_size", trainer.world_size))


@dataclass(eq=False, slots=True)
class WindowLoader:
    """Batches `(X_BT, Y_BT)`, int64, taken whole from a view of windows (N, T + 1).

    `batch_size` is that of all processes together: each takes every `world_size`-th window of a batch, so one share may
    be smaller than another, or empty. `generator` draws a new order each time, the same in each process if seeded
    alike; without it the order is that of the text.
    """

    windows_NT: Tensor  # noqa: N815
    batch_size: int
    generator: Generator | None = None
    rank: int = 0
    world_size: int = 1

    def __len__(self) -> int:
        return -(-len(self.windows_NT) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        num_windows, order_N, drawing = len(self.windows_NT), None, None
        if self.generator is not None and num_windows > MAX_PERMUTED:
            drawing = Generator().manual_seed(int(torch.randint(1 << 62, (), generator=self.generator)))
        elif self.generator is not None:
            order_N = torch.randperm(num_windows, generator=self.generator, dtype=torch.int32)
        for start in range(0, num_windows, self.batch_size):
            share: slice | Tensor = slice(start + self.rank, start + self.batch_size, self.world_size)
            if drawing is not None:
                drawn_B = torch.randint(num_windows, (self.batch_size,), generator=drawing)
                share = drawn_B[: num_windows - start][self.rank :: self.world_size].to(self.windows_NT.device)
            elif order_N is not None:
                share = order_N[share].to(self.windows_NT.device)
            batch_BT = self.windows_NT[share].long()
            yield batch_BT[:, :-1], batch_BT[:, 1:]

    def global_size(self, batch_idx: int) -> int:
        """Return the number of windows in a batch, over all processes."""
        return min(self.batch_size, len(self.windows_NT) - batch_idx * self.batch_size)


def _split(num_tokens: int, num_steps: int, num_train: int | None, num_val: int | None, unit: str) -> dict[str, Split]:
    if num_train is None or num_val is None:
        borders = [0, num_tokens * 90 // 100, num_tokens * 95 // 100, num_tokens]
        splits = {
            name: Split(range(first, max(first, last - num_steps)), range(max(first, 1), last))
            for name, first, last in zip(("train", "val", "test"), borders, borders[1:], strict=False)
        }
        largest, rule = num_tokens // 20 - 1, f"a window does not fit into 5 % of a text of {num_tokens} {unit}"
        instead = largest if largest > 0 else f"{num_steps} data.corpus=<a longer text>"
        require(all(split.starts for split in splits.values()), "data.num_steps", num_steps, rule, instead)
        return splits
    needed, largest = num_train + num_val + num_steps, num_tokens - num_steps - num_val
    sum_of = f"num_train + data.num_val={num_val} + data.num_steps={num_steps}"
    rule = f"{needed} {unit} are needed ({sum_of}) and the text has {num_tokens}"
    instead = largest if largest > 0 else "null data.num_val=null"
    require(needed <= num_tokens, "data.num_train", num_train, rule, instead)
    return {
        "train": Split(range(num_train), range(1, num_train + num_steps)),
        "val": Split(range(num_train, num_train + num_val), range(num_train + num_steps, needed)),
        "test": Split(range(needed, max(needed, num_tokens - num_steps)), range(needed, num_tokens)),
    }

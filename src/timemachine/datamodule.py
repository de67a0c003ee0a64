"""TimeMachine(LightningDataModule): text -> tokens -> windows -> batches.

N tokens (characters in the book), T time steps, B windows in a batch. A window has T inputs and T targets, the token
after each input.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Generator, Tensor

from timemachine.config import Tokens, check_data_arguments, format_value, require
from timemachine.corpus import DEFAULT, Corpus, corpus_of, find_corpus
from timemachine.errors import SettingError
from timemachine.vocab import Vocab

Batch = tuple[Tensor, Tensor]
SEARCH_DIRS = ("../shared/corpora",)  # folders with books, relative to the repository
MAX_LOGITS_PER_STEP = 1 << 18  # per time step of a batch in evaluation


class Split(NamedTuple):
    """A split: `starts`, the first input of each window; `targets`, the tokens predicted when read as one stream."""

    starts: range
    targets: range


class TimeMachine(LightningDataModule):
    """The corpus as windows that start at every token, like the book's `d2l.TimeMachine(batch_size, num_steps)`.

    The first `num_train` windows are for training and the next `num_val` for validation; windows that overlap neither,
    from token num_train + num_val + T onwards, are for testing. With both None, the splits are 90%, 5% and 5% of the
    tokens, and no window crosses a border. `start`: rotate the text to start at this character. `text`: the text
    itself, or else `corpus`: a `Corpus`, or a name or path that `find_corpus` looks up in `search_dirs`. Characters
    with fewer than `min_count` occurrences are `<unk>`. Byte-pair encoding learns `vocab_size` tokens from the part of
    the text named by `learn_on`. Raises SettingError for an invalid argument, and for a text that is not found or too
    short.
    """

    def __init__(
        self,
        batch_size: int = 1024,
        num_steps: int = 32,
        num_train: int | None = 10_000,
        num_val: int | None = 5_000,
        start: int = 0,
        tokens: str = "letters",
        min_count: int = 1,
        vocab_size: int = 1024,
        learn_on: str = "text",
        *,
        text: str | None = None,
        corpus: Corpus | str | list[str] = DEFAULT,
        search_dirs: Sequence[str] = SEARCH_DIRS,
        seed: int = 0,
    ) -> None:
        super().__init__()
        given = corpus if text is None else corpus_of(text, Tokens(tokens))
        search_dirs = [*search_dirs] if isinstance(search_dirs, tuple) else search_dirs
        corpus = given.source if isinstance(given, Corpus) else given  # plain values, for checkpoints
        names = corpus if isinstance(corpus, list) else [corpus]
        are_names = bool(names) and all(isinstance(name, str | int | float) for name in names)
        require(are_names, "data.corpus", corpus, "must be a text or a list of texts", DEFAULT)
        corpus = [str(name) for name in names] if isinstance(corpus, list) else str(corpus)
        # Not for loggers here: Lightning rejects a model and data that both have a `vocab_size`. See `setup`.
        self.save_hyperparameters(ignore="text", logger=False)
        check_data_arguments(self.hparams)
        self.batch_size, self.num_steps, self.start, self.seed = batch_size, num_steps, start, seed
        found = given if isinstance(given, Corpus) else find_corpus(corpus, search_dirs, Tokens(tokens))
        num_chars = len(found.characters)
        require(start < num_chars, "data.start", start, f"the text has {num_chars} characters", 0)
        self.corpus = found.rotated(start)
        self.generator = Generator().manual_seed(seed)  # for the order of the training windows
        source = self.corpus.characters
        if learn_on == "train":
            # One pass: in the new tokens, the training windows cover slightly more or fewer characters than these.
            windows: Any = (batch_size, num_steps, num_train, num_val, start, tokens, min_count, vocab_size)
            whole: Any = TimeMachine(*windows, corpus=found)
            source = whole.vocab.decode(whole.tokens_N[: whole.splits["train"].targets.stop].tolist())
        self.vocab = Vocab.of(source, self.corpus.tokens, min_count, vocab_size)
        self.tokens_N = self.vocab.encode(self.corpus.characters)
        self.splits = _split(len(self.tokens_N), num_steps, num_train, num_val, self.corpus.title)

    def __str__(self) -> str:
        windows = ", ".join(f"{len(split.starts):,} {name}" for name, split in self.splits.items())
        text = f"{self.corpus.title}, {len(self.tokens_N):,} tokens of {len(self.vocab)} kinds"
        return f"TimeMachine({text}; windows of {self.num_steps}: {windows}; {self.batch_size:,} a batch)"

    def setup(self, stage: str) -> None:
        """Draw the epochs of a fit from `seed`, unless a checkpoint is restored after this call.

        Also gives the loggers the arguments of this class as `data/…`, unless the Trainer does not log them. Raises
        SettingError if a fraction of `overfit_batches` or `limit_test_batches` is less than a batch: Lightning names
        other settings, or says so when the training is over.
        """
        if stage == "fit":
            self.generator.manual_seed(self.seed)
        of_splits = {"train": "overfit_batches", "val": "overfit_batches", "test": "limit_test_batches"}
        for split, name in of_splits.items():
            fraction = getattr(self.trainer, name, 0)
            num_batches = -(-len(self.splits[split].starts) // self.batch_size)
            if isinstance(fraction, float) and fraction and num_batches:
                rule = f"selects no batch of {split}, which has {num_batches}"
                require(fraction * num_batches >= 1, f"trainer.{name}", fraction, rule, 1)
        if self.trainer and self.trainer.enable_autolog_hparams:
            for logger in self.trainer.loggers:
                logger.log_hyperparams({"data": dict(self.hparams)})

    def train_dataloader(self) -> Any:
        """Return the batches of the training windows, shuffled every epoch; see `shuffler`.

        A model may provide its own loader through `train_windows(data)`: `RegularizedRNNLM`.
        """
        train_windows = getattr(getattr(self.trainer, "lightning_module", None), "train_windows", None)
        return train_windows(self) if train_windows else self.windows("train", self.batch_size, self.shuffler())

    def shuffler(self) -> Generator | None:
        """Return the generator that shuffles each epoch, or None with `overfit_batches`, for text order."""
        return None if getattr(self.trainer, "overfit_batches", 0) else self.generator

    def val_dataloader(self) -> "WindowLoader":
        """Return the batches of the validation windows, in text order."""
        return self._held_out("val")

    def test_dataloader(self) -> "WindowLoader":
        """Return the batches of the test windows, in text order; empty if the text is too short."""
        return self._held_out("test")

    def predict_dataloader(self) -> "WindowLoader":
        """Return the test windows, for `Trainer.predict`."""
        return self.test_dataloader()

    def _held_out(self, split: str) -> "WindowLoader":
        """Return batches of `batch_size` if the Trainer limits their number, otherwise larger ones."""
        limit = getattr(self.trainer, f"limit_{split}_batches", 1.0)
        return self.windows(split, self.batch_size if isinstance(limit, int) or limit < 1 else None)

    def windows(self, split: str, batch_size: int | None = None, generator: Generator | None = None) -> "WindowLoader":
        """Return this process's share of a split's windows, shuffled by the generator or in text order.

        `batch_size`: by default the fastest size for evaluation, at least `data.batch_size`.
        """
        starts, length = self.splits[split].starts, self.num_steps + 1
        device, rank, world_size = self.this_process()
        first = starts.start if starts else 0  # `unfold` needs the tokens of one window at least
        tokens_N = self.tokens_N[first : first + len(starts) + length].to(device)
        windows_NT = tokens_N.unfold(0, length, 1)[: len(starts)]
        size = batch_size or max(self.batch_size, evaluation_batch_size(len(self.vocab)))
        return WindowLoader(windows_NT, size, generator, rank, world_size)

    def this_process(self) -> tuple[torch.device, int, int]:
        """Return the device, rank and world size of this process.

        Loaders take their batches from a copy of the tokens on the device. `tokens_N` stays on the CPU: after a fit
        Lightning moves the model back, but no tensor of a data module.
        """
        if self.trainer is None:
            return self.tokens_N.device, 0, 1
        return self.trainer.strategy.root_device, self.trainer.global_rank, self.trainer.world_size

    def num_bytes(self, Y_BT: Tensor) -> Tensor | int:
        """Return the number of bytes in UTF-8 of targets (B, T)."""
        if (bytes_V := self.vocab.bytes_V).max() == 1:  # of letters, for example
            return Y_BT.numel()
        return bytes_V.to(Y_BT.device)[Y_BT].sum()

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint: the vocabulary, the text's hash, and the next epoch's order."""
        vocab, order = self.vocab, self.generator.get_state()
        return {"tokens": vocab.idx_to_token, "kind": vocab.kind.name, "sha256": self.corpus.sha256, "generator": order}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the order of the windows of an interrupted run. Raises SettingError for another text."""
        if state_dict["sha256"] != self.corpus.sha256:
            raise SettingError(f"data.corpus={format_value(self.hparams['corpus'])}: not the text of the checkpoint")
        self.generator.set_state(state_dict["generator"])


def evaluation_batch_size(vocab_size: int) -> int:
    """Return the number of windows to evaluate at once: the book's 1,024, or fewer for a vocabulary above 256."""
    return MAX_LOGITS_PER_STEP // max(vocab_size, 256)


def targets_per_process(trainer: Trainer, batch: Batch, batch_idx: int) -> float:
    """Return the average targets per process of a training batch; all processes share a loader without `world_size`."""
    loader: Any = trainer.train_dataloader
    if trainer.world_size == 1 or not hasattr(loader, "global_size"):  # a DataLoader's shares are equal
        return batch[1].numel()
    return float(loader.global_size(batch_idx) * batch[1].shape[1] / getattr(loader, "world_size", trainer.world_size))


@dataclass(eq=False, slots=True)
class WindowLoader:
    """Batches `(X_BT, Y_BT)`, int64, each taken at once from a view of windows (N, T + 1).

    `batch_size` counts the windows of all processes: each takes every `world_size`-th window of a batch, so its share
    may be smaller than another's, or empty. `generator` shuffles each iteration, equally in all processes with the same
    seed; without it, windows are in text order. Reading windows one at a time would take ten times as long.
    """

    windows_NT: Tensor  # noqa: N815
    batch_size: int
    generator: Generator | None = None
    rank: int = 0
    world_size: int = 1

    def __len__(self) -> int:
        return -(-len(self.windows_NT) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        num_windows = len(self.windows_NT)
        order_N = None
        if self.generator is not None:
            order_N = torch.randperm(num_windows, generator=self.generator, dtype=torch.int32)
        for start in range(0, num_windows, self.batch_size):
            share: slice | Tensor = slice(start + self.rank, start + self.batch_size, self.world_size)
            if order_N is not None:
                share = order_N[start : start + self.batch_size][self.rank :: self.world_size]
            batch_BT = self.windows_NT[share]
            yield batch_BT[:, :-1], batch_BT[:, 1:]

    def global_size(self, batch_idx: int) -> int:
        """Return the number of windows in a batch, over all processes."""
        return min(self.batch_size, len(self.windows_NT) - batch_idx * self.batch_size)


def _split(num_tokens: int, num_steps: int, num_train: int | None, num_val: int | None, title: str) -> dict[str, Split]:
    """Return the splits. Their `targets` are disjoint; with the book's windows, the first num_steps - 1 targets of the
    validation windows are also targets of training windows.
    """
    if num_train is None or num_val is None:
        borders = [0, num_tokens * 90 // 100, num_tokens * 95 // 100, num_tokens]
        splits = {
            name: Split(range(first, max(first, last - num_steps)), range(max(first, 1), last))
            for name, first, last in zip(("train", "val", "test"), borders, borders[1:], strict=False)
        }
        largest, rule = num_tokens // 20 - 1, f"a window does not fit into 5% of {title}, {num_tokens} tokens"
        instead = largest if largest > 0 else f"{num_steps} data.corpus=<a longer text>"
        require(all(split.starts for split in splits.values()), "data.num_steps", num_steps, rule, instead)
        return splits
    needed, largest = num_train + num_val + num_steps, num_tokens - num_steps - num_val
    total = f"{num_train:,} + {num_val:,} + {num_steps:,} = {needed:,} tokens are needed"
    rule = f"{total} (data.num_train + data.num_val + data.num_steps), but {title} has {num_tokens:,}"
    instead = largest if largest > 0 else f"{num_train} data.corpus=<a longer text>"
    require(needed <= num_tokens, "data.num_train", num_train, rule, instead)
    return {
        "train": Split(range(num_train), range(1, num_train + num_steps)),
        "val": Split(range(num_train, num_train + num_val), range(num_train + num_steps, needed)),
        "test": Split(range(needed, max(needed, num_tokens - num_steps)), range(needed, num_tokens)),
    }

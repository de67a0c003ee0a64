"""Batches of consecutive windows, and input dropout.

N characters, T time steps, B windows in a batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from timemachine.config import require
from timemachine.datamodule import Batch, WindowLoader


@dataclass(eq=False, slots=True)
class StreamLoader:
    """Batches `(X_BT, Y_BT)`, int64, of consecutive windows: a row continues the same row of the previous batch.

    The text (N) is read as a ring, in `batch_size` parallel streams of N / batch_size characters. Reading starts at a
    place drawn by the generator each epoch, or at the text's beginning without a generator. A stream skips its last
    characters if they do not fill a window. Raises SettingError if no window fits.
    """

    tokens_N: Tensor  # noqa: N815
    batch_size: int
    num_steps: int
    generator: Generator | None
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        num_chars, example = len(self.tokens_N), max(len(self.tokens_N) // (4 * self.num_steps), 1)
        reason = f"{num_chars} characters in that many streams do not fill a window of {self.num_steps}"
        require(len(self) > 0, "data.batch_size", self.batch_size, reason, example)

    def __len__(self) -> int:
        return len(self.tokens_N) // self.batch_size // self.num_steps

    def __iter__(self) -> Iterator[Batch]:
        length = len(self.tokens_N)
        # Another place in each epoch, so that windows are not cut at the same characters each time.
        start = 0 if self.generator is None else int(torch.randint(length, (), generator=self.generator))
        # A process reads the same streams for a whole epoch, since it carries their states.
        share = slice(self.rank, None, self.world_size)
        first_B1 = start + torch.arange(self.batch_size)[share, None] * (length // self.batch_size)
        for window in range(len(self)):
            input_BT = (first_B1 + window * self.num_steps + torch.arange(self.num_steps)) % length
            input_BT = input_BT.to(self.tokens_N.device)
            target_BT = (input_BT + 1) % length
            yield self.tokens_N[input_BT], self.tokens_N[target_BT]

    def global_size(self, batch_idx: int) -> int:
        """Return the number of windows in a batch, over all processes."""
        return self.batch_size


class InputDropout:
    """Batches of another loader, with each input replaced by `<unk>` with probability `chance`.

    `<unk>` carries no information, since few texts contain it. Inputs are chosen in the batch of all processes, so the
    choice does not depend on the number of processes.
    """

    def __init__(self, loader: WindowLoader | StreamLoader, chance: float, unk: int, generator: Generator) -> None:
        self.loader, self.chance, self.unk, self.generator = loader, chance, unk, generator
        self.global_size = loader.global_size

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        share = slice(self.loader.rank, None, self.loader.world_size)
        for number, (X_BT, Y_BT) in enumerate(self.loader):
            drawn_BT = torch.rand(self.global_size(number), X_BT.shape[1], generator=self.generator)[share]
            yield X_BT.masked_fill((drawn_BT < self.chance).to(X_BT.device), self.unk), Y_BT

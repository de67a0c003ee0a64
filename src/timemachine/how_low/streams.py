"""Training batches beyond the book's: windows end to end, and input dropout.

N characters, T time steps, B windows in a batch, V vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from timemachine.datamodule import Batch, WindowLoader
from timemachine.errors import SettingError


@dataclass(frozen=True, slots=True)
class Noise:
    """Input dropout: each input is replaced by `<unk>`, which no text has, with probability `chance`."""

    chance: float
    unk: int
    generator: torch.Generator

    def __call__(self, X_BT: Tensor, share: slice, size: int) -> Tensor:
        """Return the inputs of this process with noise; it is drawn for the whole batch of `size`, of which they are
        the rows `share`.
        """
        if not self.chance:
            return X_BT
        drawn_BT = torch.rand(size, X_BT.shape[1], generator=self.generator)[share]
        return X_BT.masked_fill((drawn_BT < self.chance).to(X_BT.device), self.unk)


class NoisyWindows:
    """The batches of another loader, with noise on their inputs."""

    def __init__(self, windows: WindowLoader, noise: Noise) -> None:
        self.windows, self.noise = windows, noise
        self.global_size = windows.global_size

    def __len__(self) -> int:
        return len(self.windows)

    def __iter__(self) -> Iterator[Batch]:
        share = slice(self.windows.rank, None, self.windows.world_size)
        for number, (X_BT, Y_BT) in enumerate(self.windows):
            yield self.noise(X_BT, share, self.global_size(number)), Y_BT


class StreamLoader:
    """Batches `(X_BT, Y_BT)`, int64, of windows end to end: a row of a batch goes on where that of the last one ended.

    The text (N) is read as a ring from a new place each epoch, drawn by the noise's generator, as `batch_size` streams
    side by side; of N / batch_size characters a stream the last ones that do not fill a window are left out. With
    `target_NV`, a distribution for each character, a batch has those of its targets (B, T, V) as well. Raises
    SettingError where no window fits.
    """

    def __init__(
        self,
        chars_N: Tensor,
        batch_size: int,
        num_steps: int,
        noise: Noise,
        rank: int = 0,
        world_size: int = 1,
        target_NV: Tensor | None = None,
    ) -> None:
        self.chars_N, self.target_NV = chars_N, target_NV
        self.batch_size, self.num_steps = batch_size, num_steps
        self.noise, self.rank, self.world_size = noise, rank, world_size
        if not len(self):
            raise SettingError(
                f"data.batch_size={batch_size}: invalid value, {len(chars_N)} characters in so many streams have no "
                f"window of {num_steps}; type for example data.batch_size={max(len(chars_N) // (4 * num_steps), 1)}"
            )

    def __len__(self) -> int:
        return len(self.chars_N) // self.batch_size // self.num_steps

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        length = len(self.chars_N)
        start = int(torch.randint(length, (), generator=self.noise.generator))
        share = slice(self.rank, None, self.world_size)
        first_B1 = start + torch.arange(self.batch_size)[share, None] * (length // self.batch_size)
        for window in range(len(self)):
            input_BT = (first_B1 + window * self.num_steps + torch.arange(self.num_steps)) % length
            input_BT = input_BT.to(self.chars_N.device)
            target_BT = (input_BT + 1) % length
            X_BT = self.noise(self.chars_N[input_BT].long(), share, self.batch_size)
            batch = X_BT, self.chars_N[target_BT].long()
            yield batch if self.target_NV is None else (*batch, self.target_NV[target_BT])

    def global_size(self, batch_idx: int) -> int:
        """Return the number of windows in a batch, over all processes."""
        return self.batch_size

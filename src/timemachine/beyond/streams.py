"""Windows end to end, and inputs hidden at random.

N characters, T time steps, B windows in a batch, V vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from timemachine.errors import SettingError


@dataclass(frozen=True, slots=True)
class Noise:
    """Inputs that are read as `<unk>`, each with a `chance`; the text has none, so it comes to mean: not seen."""

    chance: float
    unk: int
    generator: torch.Generator

    def __call__(self, X_BT: Tensor, share: slice, size: int) -> Tensor:
        """The inputs of this process, which are those rows of a batch of `size`: noise is drawn for all of them."""
        if not self.chance:
            return X_BT
        drawn_BT = torch.rand(size, X_BT.shape[1], generator=self.generator)[share]
        return X_BT.masked_fill((drawn_BT < self.chance).to(X_BT.device), self.unk)


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
                f"data.batch_size={batch_size}: so many streams of {len(chars_N)} characters have no window of "
                f"{num_steps}; type for example data.batch_size={max(len(chars_N) // (4 * num_steps), 1)}"
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
        """Windows in a batch, over all processes."""
        return self.batch_size

"""Training batches beyond the book's: inputs hidden at random, windows end to end, a text with soft targets.

N characters, T time steps, B windows in a batch, V vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F

from timemachine.beyond.networks import trained_networks
from timemachine.beyond.streams import Noise, StreamLoader
from timemachine.beyond.teacher import written
from timemachine.config import Training
from timemachine.datamodule import Batch, Loader, TimeMachine, WindowLoader


def train_loader(training: Training) -> Callable[[TimeMachine], Loader] | None:
    """Return what makes the loader of the training batches from the data; None for the book's."""
    if not (training.carry_state or training.input_dropout):
        return None

    def make(data: TimeMachine) -> Loader:
        noise = Noise(training.input_dropout, data.vocab.unk, data.generator)
        if not training.carry_state:
            return NoisyWindows(data.windows("train", data.generator), noise)
        rank, world_size = data.share()
        stop = data.splits["train"].targets.stop
        chars_N, target_NV = data.chars_N[:stop], None
        if training.teacher:
            num_chars = round(training.teacher * stop)
            with one_thread():
                count = training.teacher_networks if num_chars else 0
                networks = trained_networks(chars_N.cpu(), data.vocab, data.seed, count)
                train = data.corpus.characters[:stop]
                written_N, expected_NV = written(train, num_chars, data.vocab, data.seed, networks)
            target_NV = torch.cat([F.one_hot(chars_N.cpu().long(), len(data.vocab)), expected_NV]).to(chars_N.device)
            chars_N = torch.cat([chars_N, written_N.to(chars_N.device)])
        return StreamLoader(chars_N, data.batch_size, data.num_steps, noise, rank, world_size, target_NV)

    return make


@contextmanager
def one_thread() -> Iterator[None]:
    """So that a text which networks write does not depend on the number of threads: all that follows it would."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


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

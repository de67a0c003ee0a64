"""The loader of the training batches that `settings.training` asks for.

N characters, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F

from timemachine.config import Training
from timemachine.datamodule import TimeMachine, WindowLoader
from timemachine.how_low.streams import Noise, NoisyWindows, StreamLoader
from timemachine.how_low.teacher import train_networks, write


def train_loader(data: TimeMachine, training: Training) -> WindowLoader | NoisyWindows | StreamLoader:
    """Return the batches of the training windows; with a teacher, of its text as well, which is written first.

    Raises SettingError if no window fits into the streams, or if a network that teaches diverges.
    """
    if not (training.carry_state or training.input_dropout):
        return data.windows("train", data.generator)
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
            networks = train_networks(chars_N.cpu(), data.vocab, data.seed, count)
            written_N, expected_NV = write(data.corpus.characters[:stop], num_chars, data.vocab, data.seed, networks)
        target_NV = torch.cat([F.one_hot(chars_N.cpu().long(), len(data.vocab)), expected_NV]).to(chars_N.device)
        chars_N = torch.cat([chars_N, written_N.to(chars_N.device)])
    return StreamLoader(chars_N, data.batch_size, data.num_steps, noise, rank, world_size, target_NV)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, so that the text that networks write does not depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)

"""A second text to learn from, which the mixture of n-grams writes.

A network learns a small text by heart long before it has learnt all that the text says about the next one. The mixture,
taught by the same characters, writes many more in its manner, and says of each place which characters could
have stood there: targets that are soft, in places that nobody has seen (knowledge distillation: Hinton, Vinyals and
Dean, 2015; on what the teacher generates: Kim and Rush, "Sequence-level knowledge distillation", 2016).

N characters, V vocabulary.
"""

import numpy as np
import torch
from torch import Tensor

from timemachine.evaluation.mixture import LOOKED_AT, Mixture
from timemachine.evaluation.ngrams import SYMBOLS
from timemachine.vocab import Vocab

STREAMS = 400  # texts that are written side by side, at most
LEAST = 1000  # characters of each, where that many are asked for


def written(train: bytes, num_chars: int, vocab: Vocab, seed: int) -> tuple[Tensor, Tensor]:
    """Return a text (N,), uint8, that goes on from places of the training text, and of each character the distribution
    that it was drawn from (N, V), float32.

    `num_chars`: N, at most; what does not fill the streams is left out. The same seed writes the same text on the same
    machine: another one's arithmetic may draw another character somewhere, and then all that follow it in a stream.
    """
    mixture, generator = Mixture(), np.random.default_rng(seed)
    mixture.read(train, range(len(train)), learn=True)
    streams = min(STREAMS, max(num_chars // LEAST, 1))
    starts = generator.integers(len(train), size=streams).tolist()
    prefixes = [train[max(0, start - LOOKED_AT) : start] for start in starts]
    code_BL, p_BLS = mixture.write(prefixes, num_chars // streams, generator)
    place_S = torch.tensor([vocab[chr(symbol)] for symbol in SYMBOLS])
    p_NV = torch.zeros(code_BL.size, len(vocab)).index_add_(1, place_S, torch.from_numpy(p_BLS).flatten(0, 1))
    return place_S[torch.from_numpy(code_BL).flatten()].to(torch.uint8), p_NV

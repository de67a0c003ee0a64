"""Soft targets: what a Kneser-Ney 7-gram expects at each place of the training text that it has not seen.

A network learns a small text by heart long before it has learnt all that the text says about the next one. The n-gram
tells it which other characters could have stood in a place (knowledge distillation: Hinton, Vinyals and Dean, 2015). It
sees the training characters alone.

N characters, V vocabulary.
"""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from timemachine.evaluation.ngrams import SYMBOLS, kneser_ney_distribution
from timemachine.vocab import Vocab

ORDER = 7  # the best on the novel's validation text
FOLDS = 20


def expected(train: bytes, vocab: Vocab) -> Tensor:
    """A distribution over the vocabulary for each character of the text: (N, V), float32.

    For each twentieth of the text the n-grams are counted in the other nineteen, so that a place is as new to them as a
    held-out text. The first six characters, which have too short a context, are expected uniformly.
    """
    p_NS = np.full((len(train), len(SYMBOLS)), 1 / len(SYMBOLS))
    borders = [len(train) * fold // FOLDS for fold in range(FOLDS + 1)]
    for first, last in pairwise(borders):
        targets = range(max(first, ORDER - 1), last)
        if targets:
            p_NS[targets.start : last] = kneser_ney_distribution(train[:first] + train[last:], train, targets, ORDER)
    p_NV = torch.zeros(len(train), len(vocab))
    for symbol, p_N in zip(SYMBOLS, torch.from_numpy(p_NS).T, strict=True):
        p_NV[:, vocab[chr(symbol)]] += p_N  # a symbol that the text has not is <unk>
    return p_NV

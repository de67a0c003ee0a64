"""The probe `ngrams`. test_books.py has the bits per byte of byte pairs."""

import math

import numpy as np
import pytest

from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.ngrams import kneser_ney
from timemachine.language_model import RNNLMScratch
from timemachine.study import ngrams


def test_letters_are_those_of_the_baselines(sample: Corpus) -> None:
    data = TimeMachine(64, 8, 700, 150, corpus=sample)
    found = ngrams.measure(RNNLMScratch(len(data.vocab), hiddens=2), data)
    text, splits = data.tokens_N.numpy().astype(np.int64), data.splits

    def nll(part: str, order: int) -> float:
        train = text[: splits["train"].targets.stop]
        return float(kneser_ney(train, text, splits[part].targets, order, len(data.vocab)).mean())

    assert found["order"] == min(range(1, 6), key=lambda order: nll("val", order))
    for part in ("val", "test"):
        bits = nll(part, found["order"]) / math.log(2)
        assert found[part]["perplexity"] == pytest.approx(2**bits)
        assert found[part]["bits_per_byte"] == pytest.approx(bits)  # a letter is a byte

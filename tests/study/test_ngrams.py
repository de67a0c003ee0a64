"""The probe `ngrams`."""

import math
from typing import Any

import numpy as np
import pytest

from timemachine.config import Tokens
from timemachine.corpus import find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.ngrams import kneser_ney
from timemachine.language_model import RNNLMScratch
from timemachine.study import ngrams


def measured(data: TimeMachine) -> dict[str, Any]:
    return ngrams.measure(RNNLMScratch(len(data.vocab), hiddens=2), data)


def test_letters_are_those_of_the_baselines() -> None:
    data = TimeMachine(64, 8, 700, 150, corpus=find_corpus("sample", []))
    found = measured(data)
    text = data.tokens_N.numpy().astype(np.int64)
    train, targets = (
        text[: data.splits["train"].targets.stop],
        {part: data.splits[part].targets for part in ("val", "test")},
    )
    means = {order: kneser_ney(train, text, targets["val"], order, len(data.vocab)).mean() for order in range(1, 6)}
    assert found["order"] == min(means, key=means.__getitem__)
    for part in ("val", "test"):
        nll = kneser_ney(train, text, targets[part], found["order"], len(data.vocab)).mean()
        assert found[part]["perplexity"] == pytest.approx(math.exp(nll))
        assert found[part]["bits_per_byte"] == pytest.approx(nll / math.log(2))  # a letter is a byte


def test_bits_of_byte_pairs() -> None:
    corpus = find_corpus("sample", [], Tokens.bpe)
    data = TimeMachine(64, 8, 700, 150, corpus=corpus, tokens=Tokens.bpe, vocab_size=300)
    found = measured(data)
    assert 1 < found["val"]["perplexity"] < len(data.vocab)
    assert found["val"]["bits_per_byte"] < math.log2(found["val"]["perplexity"])  # a token has several bytes

"""The probe `ngrams`."""

import math
from typing import Any

import numpy as np
import pytest

from timemachine.datamodule import TimeMachine
from timemachine.evaluation.ngrams import kneser_ney
from timemachine.language_model import RNNLMScratch
from timemachine.study import ngrams


@pytest.mark.parametrize("tokens", [{}, {"tokens": "bpe", "vocab_size": 300}], ids=str)
def test_ngrams_are_those_of_the_baselines(tokens: dict[str, Any]) -> None:
    data = TimeMachine(64, 8, 700, 150, corpus="sample", **tokens)
    found = ngrams.measure(RNNLMScratch(len(data.vocab), hiddens=2), data)
    text, splits = data.tokens_N.numpy().astype(np.int64), data.splits

    def nll(part: str, order: int) -> float:
        train = text[: splits["train"].targets.stop]
        return float(kneser_ney(train, text, splits[part].targets, order, len(data.vocab)).mean())

    assert found["order"] == min(range(1, 6), key=lambda order: nll("val", order))
    for part in ("val", "test"):
        bits, targets = nll(part, found["order"]) / math.log(2), splits[part].targets
        num_bytes = int(data.vocab.bytes_V[data.tokens_N[list(targets)].long()].sum())
        assert found[part]["perplexity"] == pytest.approx(2**bits)
        assert found[part]["bits_per_byte"] == pytest.approx(bits * len(targets) / num_bytes)

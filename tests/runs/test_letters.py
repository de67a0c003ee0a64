"""What the frequencies of the letters give, against the one-grams of `evaluation.ngrams`."""

import math
from pathlib import Path

import pytest

from timemachine.corpus import find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.how_low.ngrams import laplace
from timemachine.runs.letters import letters_perplexity


def test_what_the_frequencies_of_the_letters_give(novels: Path) -> None:
    corpus = find_corpus("time_machine", [str(novels)])
    data, text = TimeMachine(corpus=corpus), corpus.characters
    for split, targets, known in (("train", range(1, 10_032), 17.07), ("val", range(10_001, 15_032), 16.66)):
        found = letters_perplexity(data, split)
        assert found == pytest.approx(known, abs=0.005)
        expected = math.exp(laplace(text[:10_032], text, targets, 1).mean())
        assert found == pytest.approx(expected, rel=1e-12)

"""A model compared with n-grams that learn from the same tokens."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.evaluation.baselines import compare_with_ngrams
from timemachine.evaluation.ngrams import kneser_ney
from timemachine.evaluation.scores import score, stream_nll
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab

WINDOWS: dict[str, Any] = {"num_steps": 4, "num_train": 60, "num_val": 30, "start": 0}
SETTINGS = WINDOWS | {"tokens": "letters", "min_count": 1}


def test_comparison_with_ngrams(excerpt: Corpus, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vocab = Vocab.of(excerpt.characters)
    model, tokens_N = RNNLMScratch(len(vocab), hiddens=8, sigma=0.5).double(), vocab.encode(excerpt.characters)
    summary = {"settings": {"data": SETTINGS}, "corpus": {"sha256": excerpt.sha256}}
    comparisons = list(compare_with_ngrams(model, vocab, summary, [excerpt], excerpt))
    splits = TimeMachine(corpus=excerpt, **SETTINGS).splits
    text = tokens_N.numpy().astype(np.int64)
    train = text[: splits["train"].targets.stop]
    for comparison, part in zip(comparisons, ("val", "test"), strict=True):
        targets = splits[part].targets
        assert {(row.text, row.part) for row in (comparison.model, comparison.ngrams)} == {(excerpt.name, part)}
        perplexity = score(stream_nll(model, tokens_N, targets)).perplexity
        best = min(kneser_ney(train, text, targets, order, len(vocab)).mean() for order in range(1, 8))
        assert comparison.model.stream.perplexity == perplexity
        assert comparison.ngrams.stream.perplexity == pytest.approx(math.exp(best))
        assert comparison.difference[0] == pytest.approx(math.log(perplexity) - best)
    (tmp_path / "other.txt").write_text(excerpt.characters[::-1])
    other = find_corpus(str(tmp_path / "other.txt"), [])
    (of_all,) = compare_with_ngrams(model, vocab, summary, [other], excerpt)
    assert (of_all.model.part, of_all.model.stream.num_targets) == ("all", len(other.characters) - 6)
    with pytest.raises(SettingError, match=r"^baselines=true: [^\n]*$"):
        next(compare_with_ngrams(model, vocab, summary, [excerpt], other))

"""A model compared with n-grams and their mixture on the same characters."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.evaluation.baselines import KNESER_NEY, MIXTURE, MODEL, ORDERS, compare_with_ngrams
from timemachine.evaluation.ngrams import kneser_ney
from timemachine.evaluation.scores import stream_score
from timemachine.language_model import RNNLMScratch
from timemachine.regularized.mixture import Mixture, log_loss
from timemachine.regularized.symbols import LETTERS
from timemachine.vocab import Vocab

WINDOWS: dict[str, Any] = {"num_steps": 4, "num_train": 60, "num_val": 30, "start": 0}
SETTINGS = WINDOWS | {"tokens": "letters", "min_count": 1}


def test_comparison_of_letters(excerpt: Corpus, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vocab = Vocab.of(excerpt.characters)
    model, tokens_N = RNNLMScratch(len(vocab), hiddens=8, sigma=0.5).double(), vocab.encode(excerpt.characters)
    summary = {"settings": {"data": SETTINGS}, "corpus": {"sha256": excerpt.sha256}}
    comparisons = list(compare_with_ngrams(model, vocab, summary, [excerpt], excerpt))
    splits = TimeMachine(corpus=excerpt, **SETTINGS).splits
    text = LETTERS.encode(excerpt.characters)
    train = text[: splits["train"].targets.stop]
    for comparison, part in zip(comparisons, ("val", "test"), strict=True):
        targets = splits[part].targets
        assert {(row.text, row.part) for row in comparison.rows} == {(excerpt.name, part)}
        perplexities = {row.model: row.stream.perplexity for row in comparison.rows}
        assert perplexities[MODEL] == stream_score(model, tokens_N, targets).perplexity
        best = min(kneser_ney(train, text, targets, order, 27).mean() for order in ORDERS)
        assert perplexities[KNESER_NEY] == pytest.approx(math.exp(best))
        mixture = Mixture(LETTERS)
        mixture.learn(train)
        nll_N = log_loss(mixture.read(text, targets), text, targets)
        assert perplexities[MIXTURE] == pytest.approx(math.exp(nll_N.mean()))
        for name in (KNESER_NEY, MIXTURE):
            expected = math.log(perplexities[MODEL] / perplexities[name])
            assert comparison.differences[name][0] == pytest.approx(expected)
    (tmp_path / "other.txt").write_text(excerpt.characters[::-1])
    other = find_corpus(str(tmp_path / "other.txt"), [])
    (of_all,) = compare_with_ngrams(model, vocab, summary, [other], excerpt)
    assert (of_all.rows[0].part, of_all.rows[0].stream.num_targets) == ("all", len(other.characters) - 6)
    with pytest.raises(SettingError, match=r"^baselines=true: [^\n]*$"):
        next(compare_with_ngrams(model, vocab, summary, [excerpt], other))

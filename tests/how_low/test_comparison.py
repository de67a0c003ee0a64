"""A model beside n-grams, their mixture and PPMd, on the same characters, and what evaluate.py prints of that."""

import math
from dataclasses import replace
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest
import torch

from timemachine.config import Tokens
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.evaluation.scores import Row, Score, stream_score
from timemachine.how_low import comparison
from timemachine.how_low.comparison import MIXTURE, MODEL, PPMD, Comparison, compare
from timemachine.how_low.dynamic_evaluation import print_adapting
from timemachine.how_low.mixture import Mixture, log_loss
from timemachine.how_low.ngrams import kneser_ney
from timemachine.how_low.symbols import LETTERS
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab

WINDOWS: dict[str, Any] = {"num_steps": 4, "num_train": 60, "num_val": 30, "start": 0}
SETTINGS = WINDOWS | {"tokens": "letters", "min_count": 1}


def test_a_comparison_is_of_the_same_characters(
    excerpt: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    vocab = Vocab.of(excerpt.characters)
    model, chars_N = RNNLMScratch(len(vocab), hiddens=8, sigma=0.5).double(), vocab.encode(excerpt.characters)
    summary = {"settings": {"data": SETTINGS}, "corpus": {"sha256": excerpt.sha256}}
    val, test = compare(model, vocab, summary, [excerpt], excerpt)
    splits = TimeMachine(corpus=excerpt, **SETTINGS).splits
    text = LETTERS.encode(excerpt.characters)
    train = text[: splits["train"].targets.stop]
    for found, part in ((val, "val"), (test, "test")):
        targets = splits[part].targets
        assert {(row.text, row.part) for row in found.rows} == {(excerpt.name, part)}
        perplexities = {row.model: row.stream.perplexity for row in found.rows}
        assert perplexities[MODEL] == stream_score(model, chars_N, targets).perplexity
        assert found.ngrams["Witten-Bell"][0] == found.ngrams["Kneser-Ney"][0] == pytest.approx(27)
        nll_N = torch.from_numpy(kneser_ney(train, text, targets, 5, 27))
        assert found.ngrams["Kneser-Ney"][5] == pytest.approx(math.exp(nll_N.mean()))
        ours, best, fixed, learning, *_ = perplexities.values()
        assert best == pytest.approx(min(perplexity for each in found.ngrams.values() for perplexity in each))
        differences = [mean for mean, _ in found.differences.values()]
        assert differences == pytest.approx([math.log(ours / best), math.log(ours / fixed)])
        mixture = Mixture(LETTERS)
        mixture.read(train, range(len(train)), learn=True)
        adapting = log_loss(mixture.read(text, targets, learn=True), text, targets)
        assert learning == perplexities[f"{MIXTURE}, adapting"] == pytest.approx(math.exp(adapting.mean()))
    (tmp_path / "other.txt").write_text(excerpt.characters[::-1])
    other = find_corpus(str(tmp_path / "other.txt"), [])
    monkeypatch.setattr(comparison, "find_spec", lambda name: None)
    (of_all,) = compare(model, vocab, summary, [other], excerpt)
    first, *_, last = of_all.rows
    assert (first.part, first.stream.num_targets) == ("all", len(other.characters) - 6)
    assert last.model == f"{MIXTURE}, adapting"
    with pytest.raises(SettingError, match=r"baselines=true: .*other\.txt is not the text that the run was trained on"):
        next(compare(model, vocab, summary, [excerpt], other))


def test_of_characters_all_are_compared_on_the_vocabularys_symbols(excerpt: Corpus) -> None:
    """Also on a text most of whose characters nobody has seen: they are one symbol to all, to PPMd as well."""
    own = replace(excerpt, characters=8 * "«Πᾶς», said Émile: 12 or 3?\n", tokens=Tokens.characters)
    settings = {"data": WINDOWS | {"tokens": "characters", "min_count": 9}}
    summary = {"settings": settings, "corpus": {"sha256": own.sha256}}
    vocab = Vocab.of(own.characters, Tokens.characters, min_count=9)
    other = replace(own, characters=3 * "Всё, 人之初。\n", sha256="another")
    model = RNNLMScratch(len(vocab), hiddens=4)
    val, test, of_other = compare(model, vocab, summary, [own, other], own)
    for found, part in ((val, "val"), (test, "test"), (of_other, "all")):
        perplexities = {row.model: row.stream.perplexity for row in found.rows}
        assert found.rows[0].part == part and found.ngrams["Kneser-Ney"][0] == pytest.approx(len(vocab))
        assert all(1 < perplexity < 2 * len(vocab) for perplexity in perplexities.values())
        assert perplexities[MODEL] == pytest.approx(len(vocab), rel=0.01)


def test_models_are_printed_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    known = {MODEL: 7.5, "1-gram, Kneser-Ney": 16, MIXTURE: 7.0, f"{MIXTURE}, adapting": 6.5}
    rows = [Row("a", "val", name, Score(perplexity, 0.125, 3.0, 1203)) for name, perplexity in known.items()]
    rows.append(Row("a", "val", PPMD, Score(7.25, math.nan, 2.9, 1203)))
    ngrams = {"Witten-Bell": [27.0, 17.0], "Kneser-Ney": [27.0, 16.0]}
    differences = {"1-gram, Kneser-Ney": (-0.75, 0.01), MIXTURE: (0.069, 0.02)}
    comparison.print_comparison(Comparison(rows, ngrams, differences))
    print_adapting([rows[3]], 0.01)
    printed = " ".join(capsys.readouterr().out.split())
    assert "the model 7.50 ±0.12 1-gram, Kneser-Ney 16.00 ±0.12 -0.750 ±0.010 mixture of n-grams 7.00 ±0.12 " in printed
    assert "+0.069 ±0.020 mixture of n-grams, adapting 6.50 ±0.12 PPMd, order 6, adapting 7.25" in printed
    assert "a, val, dynamic evaluation with a kNN cache, rate 0.01: stream 6.50 ±0.12, 3.000 bits" in printed


def test_ppmd_codes_a_known_text_in_few_bits(sample: Corpus) -> None:
    pytest.importorskip("pyppmd", reason="pyppmd is not installed")
    known, text = sample.characters[:5000], sample.characters[5000:7000]
    assert 1.5 < comparison.ppmd_bits(known, text) / len(text) < comparison.ppmd_bits("", text) / len(text) < 4
    assert comparison.ppmd_bits(known, known[1000:3000]) < 2000
    assert comparison.ppmd_bits(known, "") == 0
    greek = text.translate({ord(letter): ord(letter) + 0x350 for letter in ascii_lowercase})  # two bytes each
    assert 1 < comparison.ppmd_bits("", greek) / comparison.ppmd_bits("", text) < 1.3

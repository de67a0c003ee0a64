"""A model compared with n-grams, their mixture and PPMd on the same characters."""

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
from timemachine.evaluation.scores import stream_score
from timemachine.how_low import comparison
from timemachine.how_low.comparison import MIXTURE, MODEL, compare
from timemachine.how_low.mixture import Mixture, log_loss
from timemachine.how_low.ngrams import kneser_ney
from timemachine.how_low.symbols import LETTERS, Symbols
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab

WINDOWS: dict[str, Any] = {"num_steps": 4, "num_train": 60, "num_val": 30, "start": 0}
SETTINGS = WINDOWS | {"tokens": "letters", "min_count": 1}


def test_comparison_of_letters(excerpt: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    vocab = Vocab.of(excerpt.characters)
    model, tokens_N = RNNLMScratch(len(vocab), hiddens=8, sigma=0.5).double(), vocab.encode(excerpt.characters)
    summary = {"settings": {"data": SETTINGS}, "corpus": {"sha256": excerpt.sha256}}
    val, test = compare(model, vocab, summary, [excerpt], excerpt)
    splits = TimeMachine(corpus=excerpt, **SETTINGS).splits
    text = LETTERS.encode(excerpt.characters)
    train = text[: splits["train"].targets.stop]
    for found, part in ((val, "val"), (test, "test")):
        targets = splits[part].targets
        assert {(row.text, row.part) for row in found.rows} == {(excerpt.name, part)}
        perplexities = {row.model: row.stream.perplexity for row in found.rows}
        assert perplexities[MODEL] == stream_score(model, tokens_N, targets).perplexity
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
    with pytest.raises(SettingError, match=r"^baselines=true: [^\n]*$"):
        next(compare(model, vocab, summary, [excerpt], other))


def test_comparison_of_characters(excerpt: Corpus) -> None:
    """Most characters of one text are unknown: all models, including PPMd, count them as one symbol."""
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


def test_ppmd(sample: Corpus) -> None:
    pytest.importorskip("pyppmd", reason="pyppmd is not installed")
    known, text = LETTERS.encode(sample.characters[:5000]), LETTERS.encode(sample.characters[5000:7000])
    of_text = comparison.ppmd_bits(LETTERS, known, text) / len(text)
    assert 1.5 < of_text < comparison.ppmd_bits(LETTERS, b"", text) / len(text) < 4
    assert comparison.ppmd_bits(LETTERS, known, known[1000:3000]) < 2000


def test_ppmd_script(sample: Corpus) -> None:
    """A text takes as many bits in another script, which has two bytes per letter in UTF-8."""
    pytest.importorskip("pyppmd", reason="pyppmd is not installed")
    cyrillic = {ord(letter): chr(ord("а") + place) for place, letter in enumerate(ascii_lowercase)}
    bits = []
    for text in (sample.characters, sample.characters.translate(cyrillic)):
        symbols = Symbols.of(Vocab.of(text, Tokens.characters))
        bits.append(comparison.ppmd_bits(symbols, symbols.encode(text[:5000]), symbols.encode(text[5000:7000])))
    assert bits[0] == pytest.approx(bits[1], rel=0.01)

"""Books at hand, read by a model: how many characters, which scores."""

from pathlib import Path

import pytest

from timemachine.corpus import Corpus, at_hand, find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.exercises import books
from timemachine.language_model import RNNLMScratch
from timemachine.texts import CATALOGUE

WELLS = ("time_machine", "war_of_the_worlds")


def test_the_probe_reads_the_sample(sample: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "at_hand", lambda folders: [])
    data = TimeMachine(corpus=sample)
    measured = books.measure(RNNLMScratch(len(data.vocab)).eval(), data)
    assert (measured["trained_on"], measured["train_characters"]) == ("sample", 10_032)
    (scores,) = measured["books"].values()
    assert scores["stream"]["num_targets"] == len(data.splits["test"].targets)
    assert scores["stream"]["perplexity"] == pytest.approx(len(data.vocab), rel=0.02)  # of a model not yet trained
    assert scores["witten_bell"]["perplexity"] < scores["laplace"]["perplexity"] < 15
    without_rest = TimeMachine(num_val=len(sample.characters) - 10_000 - 32, corpus=sample)
    assert books.measure(RNNLMScratch(len(data.vocab)).eval(), without_rest)["books"] == {}


def test_every_book_is_read_at_equal_length(novels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpora = {name: find_corpus(name, [str(novels)]) for name in CATALOGUE}
    assert all(len(corpus.characters) >= books.TARGETS.stop for corpus in corpora.values())
    wells = [corpora[name] for name in WELLS]
    monkeypatch.setattr(books, "at_hand", lambda folders: wells)
    data = TimeMachine(corpus=wells[0])
    measured = books.measure(RNNLMScratch(len(data.vocab)).eval(), data)["books"]
    assert list(measured) == list(WELLS)
    assert {book["stream"]["num_targets"] for book in measured.values()} == {120_000}
    assert data.splits["test"].targets.start == books.TARGETS.start


def test_only_the_catalogues_edition_is_at_hand(tmp_path: Path, novels: Path) -> None:
    (tmp_path / "time_machine.txt").write_text("another edition")
    assert at_hand([str(tmp_path)]) == []
    assert [book.name for book in at_hand([str(tmp_path), str(novels)])] == list(CATALOGUE)

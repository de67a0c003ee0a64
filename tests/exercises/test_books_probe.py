"""Books at hand, read by a model: how many characters, which scores."""

import json
from pathlib import Path

import pytest
import torch

from timemachine.corpus import Corpus, at_hand, find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import window_score
from timemachine.exercises import books
from timemachine.language_model import RNNLMScratch
from timemachine.texts.catalogue import CATALOGUE

WELLS = ("time_machine", "war_of_the_worlds")


def test_the_probe_reads_the_sample(sample: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "at_hand", lambda folders: [])
    data = TimeMachine(corpus=sample)
    measured = books.measure(RNNLMScratch(len(data.vocab)).eval(), data)
    assert json.loads(json.dumps(measured)) == measured
    assert (measured["trained_on"], measured["train_characters"]) == ("sample", 10_032)
    (scores,) = measured["books"].values()
    assert scores["stream"]["num_targets"] == len(data.splits["test"].targets)
    assert scores["stream"]["perplexity"] == pytest.approx(len(data.vocab), rel=0.02)  # of a model not yet trained
    assert scores["witten_bell"]["perplexity"] < scores["laplace"]["perplexity"] < 15


def test_windows_can_be_left_out(sample: Corpus) -> None:
    data = TimeMachine(corpus=sample)
    model = RNNLMScratch(len(data.vocab), sigma=0.5).eval()
    kept = window_score(model, data.chars_N, range(100, 400, 8), 32, batch_size=16)
    windows_NT = data.chars_N.unfold(0, 33, 1)[100:400:8].long()
    with torch.inference_mode():
        nll_NT = model.nll((windows_NT[:, :-1], windows_NT[:, 1:])).double()
    assert kept.perplexity == pytest.approx(nll_NT.mean().exp().item())
    assert kept.num_targets == 396 + 32 - 100


def test_the_probe_has_no_row_of_a_text_without_a_rest(sample: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "at_hand", lambda folders: [])
    rest = len(sample.characters) - 10_000 - 32
    data = TimeMachine(num_val=rest, corpus=sample)
    assert books.measure(RNNLMScratch(len(data.vocab)).eval(), data)["books"] == {}


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

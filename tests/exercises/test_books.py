"""The two exercises that read other books: what their probe measures, and their reports of jobs as they leave them."""

import math
from pathlib import Path
from typing import Any

import pytest

from timemachine.corpus import Corpus, at_hand, find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.exercises import books, other_authors, war_of_the_worlds
from timemachine.exercises.jobs import Job
from timemachine.exercises.report import write_report
from timemachine.language_model import RNNLMScratch
from timemachine.texts import CATALOGUE

WELLS = ("time_machine", "war_of_the_worlds")


def test_the_probe_reads_the_sample(sample: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
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


def job(trained_on: str, seed: int, perplexities: dict[str, float], characters: int = 10_032) -> Job:
    """A job as the probe leaves it: `perplexities` of the stream; all else follows from them."""

    def score(perplexity: float) -> dict[str, float]:
        bits = math.log2(perplexity) if perplexity > 0 else math.nan
        return {"perplexity": perplexity, "standard_error": 0.05, "bits": bits, "num_targets": 120_000}

    def book(name: str) -> dict[str, Any]:
        return {"title": CATALOGUE[name].title, "author": CATALOGUE[name].author}

    ngrams = {"laplace": score(9.5), "witten_bell": score(8.0)}
    of_books = {
        name: book(name) | ngrams | {"window": score(value + 0.2), "stream": score(value)}
        for name, value in perplexities.items()
    }
    probe = book(trained_on) | {"trained_on": trained_on, "train_characters": characters, "witten_bell_order": 4}
    settings, probes = {"seed": seed, "data.corpus": trained_on}, {"books": probe | {"books": of_books}}
    return Job(Path(), "completed" if of_books else "diverged", "", settings, {}, 1.0, "", probes if of_books else {})


READ = dict(zip(CATALOGUE, [8.7, 8.8, 9.1, 8.5, 8.85, 8.5, 8.8, 9.0], strict=True))


def test_the_war_of_the_worlds_has_a_row_for_each_book_and_training_text() -> None:
    jobs = [job("time_machine", seed, READ | {"time_machine": 8.6 + seed / 5}) for seed in (0, 1)]
    jobs += [job("time_machine", seed, dict.fromkeys(READ, 6.5), 156_085) for seed in (0, 1)]
    found = war_of_the_worlds.findings(jobs)
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    assert len(rows) == 2 * len(CATALOGUE)
    assert rows[0]["trained on"] == "The Time Machine, 10,032 characters"
    assert rows[0]["read"] == "The Time Machine, its test part"
    assert rows[0]["stream"] == "8.70 ± 0.14"
    assert rows[-1]["trained on"] == "The Time Machine, 156,085 characters"
    assert rows[-1]["Witten-Bell"] == "8.00 ± 0.05"
    assert "8.80 on The War of the Worlds, and 8.70 on the unread rest of its own book." in found.answer
    longer = " ".join(found.longer)
    assert "harder: Pride and Prejudice (9.10), Adventures of Huckleberry Finn (9.00); cannot" in longer
    assert "easier: The Hound" in longer
    assert "cannot be told apart: The Lost World (8.85), A Tale of Two Cities (8.80)." in longer


def test_other_authors_is_training_book_by_book_read() -> None:
    jobs = [
        job(name, seed, READ | {name: 7.0}) for name in (*WELLS, "the_lost_world") for seed in (0, 1)
    ]  # each book best known to its own model
    found = other_authors.findings(jobs)
    assert [row[:4] for row in found.rows[:2]] == [
        ["The Time Machine", "H. G. Wells", "2", "model"],
        ["The Time Machine", "H. G. Wells", "", "n-gram"],
    ]
    assert found.columns[4:7] == [row[0] for row in found.rows[::2]]
    assert found.rows[0][4:6] == ["7.00 ± 0.00", "8.80 ± 0.00"]
    assert found.answer.startswith("3 of 3 books are predicted best, beyond 2 standard errors, by the model of their")
    longer = "\n".join(found.longer)
    assert "| The War of the Worlds | The War of the Worlds |" in longer  # read, and predicted best by
    assert "| The War of the Worlds | The Time Machine | none | none | The Lost World |" in longer  # both directions
    assert "The n-gram from the same characters has the lower mean in 21 of 24 cells." in found.longer


@pytest.mark.parametrize("exercise", ["war_of_the_worlds", "other_authors"])
def test_a_report_is_written_of_whatever_jobs_left(
    exercise: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = READ | {"war_of_the_worlds": math.nan, "the_lost_world": math.inf}
    jobs = [job("time_machine", 0, odd), job("time_machine", 1, {})]
    monkeypatch.setattr("timemachine.exercises.report.load_jobs", lambda folder: jobs)
    write_report(tmp_path, exercise)
    report = (tmp_path / "report.md").read_text()
    assert report.count("![") == len(list(tmp_path.glob("*.png"))) == 1
    assert "Left out: 1 of" in report
    assert "nan" not in report.partition("## Answer")[2].partition("## What was run")[0]
    assert "nan" not in report.partition("## Findings")[2]

"""The two exercises that read other books: what their probe measures, and their reports of jobs as they leave them."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from scipy import stats

from tests.support.jobs import leave_job
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import stream_score
from timemachine.exercises import books, other_authors, war_of_the_worlds
from timemachine.exercises.sweep_report import write_report
from timemachine.how_low import LETTERS, witten_bell
from timemachine.language_model import RNNLMScratch
from timemachine.run.jobs import load_jobs
from timemachine.texts import CATALOGUE

WELLS = ("time_machine", "war_of_the_worlds")
DOYLE = ("hound_of_the_baskervilles", "the_lost_world")
STARTS = range(0, 80, 10)


def untrained(data: TimeMachine) -> RNNLMScratch:
    return RNNLMScratch(len(data.vocab)).eval()


# The probe


@pytest.mark.parametrize("start", [0, 700])
def test_books_begin_at_start(sample: Corpus, monkeypatch: pytest.MonkeyPatch, start: int) -> None:
    other = Corpus("other", "Another", "other", sample.paths, sample.characters[::-1], "0")
    monkeypatch.setattr(books, "at_hand", lambda folders: [sample, other])
    monkeypatch.setattr(books, "TARGETS", range(15_032, 18_000))
    data = TimeMachine(num_train=10_000, corpus=sample, start=start)
    model = untrained(data)
    measured = books.measure(model, data)
    train = (sample.characters * 2)[start : start + 10_032]
    assert (measured["trained_on"], measured["train_characters"], measured["title"]) == ("sample", 10_032, sample.title)
    assert list(measured["books"]) == ["sample", "other"]
    for corpus in (sample, other):
        text = (corpus.characters * 2)[start : start + len(corpus.characters)]
        targets = range(15_032, min(18_000, len(text)))
        scores = measured["books"][corpus.name]
        counted = LETTERS.encode(train), LETTERS.encode(text)
        nll_N = witten_bell(*counted, targets, measured["witten_bell_order"], len(LETTERS))
        one_stream = stream_score(model, data.vocab.encode(text), targets)
        assert scores["stream"]["bits"] == pytest.approx(one_stream.bits, rel=1e-5)
        assert scores["witten_bell"]["bits"] == pytest.approx(nll_N.mean() / math.log(2))
        assert scores["stream"]["num_targets"] == len(targets)


def test_own_text_without_a_rest(sample: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "at_hand", lambda folders: [])
    data = TimeMachine(num_val=len(sample.characters) - 10_000 - 32, corpus=sample)
    assert books.measure(untrained(data), data)["books"] == {}


def test_books_have_equal_length(novels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpora = {name: find_corpus(name, [str(novels)]) for name in CATALOGUE}
    assert all(len(corpus.characters) >= books.TARGETS.stop for corpus in corpora.values())
    monkeypatch.setattr(books, "at_hand", lambda folders: [corpora[name] for name in WELLS])
    data = TimeMachine(corpus=corpora["time_machine"])
    measured = books.measure(untrained(data), data)["books"]
    assert {name: book["stream"]["num_targets"] for name, book in measured.items()} == dict.fromkeys(WELLS, 120_000)
    assert data.splits["test"].targets.start == books.TARGETS.start


def test_only_known_editions_are_read(tmp_path: Path, novels: Path) -> None:
    (tmp_path / "time_machine.txt").write_text("another edition")
    assert books.at_hand([str(tmp_path)]) == []
    assert [book.name for book in books.at_hand([str(tmp_path), str(novels)])] == list(CATALOGUE)


# The reports


def leave(
    sweep: Path, trained_on: str, bits: Callable[[str, int], float], starts: range, characters: int = 10_032
) -> None:
    """Leave a job for each start; `bits` of a book and a start, those of the n-gram lie 0.25 below."""

    def of_book(name: str, start: int) -> dict[str, Any]:
        about = {"title": CATALOGUE[name].title, "author": CATALOGUE[name].author}
        return about | {"stream": {"bits": bits(name, start)}, "witten_bell": {"bits": bits(name, start) - 0.25}}

    for start in starts:
        settings = {"seed": start, "data": {"corpus": trained_on, "start": start}}
        probe = {"trained_on": trained_on, "train_characters": characters, "title": CATALOGUE[trained_on].title}
        probe["books"] = {name: of_book(name, start) for name in CATALOGUE}
        leave_job(sweep, settings, probes={"books": probe})


def noise(*of: object) -> float:
    """Between −0.5 and 0.5, another for each argument, the same each time."""
    return math.sin(sum(map(ord, repr(of))) ** 2) / 2


def of_the_time_machine(book: str, start: int) -> float:
    """Three books are clearly harder than The War of the Worlds, one is easier, two hardly differ from it."""
    offset = dict(zip(CATALOGUE, [-0.002, 0, 0.1, -0.1, 0.1, 0.001, 0.1, 0.002], strict=True))[book]
    return 3 + noise(start) + offset + (0 if book == "war_of_the_worlds" else 0.03 * noise(book, start))


def test_books_are_compared_by_excerpt(tmp_path: Path) -> None:
    leave(tmp_path / "s", "time_machine", of_the_time_machine, STARTS)
    leave(tmp_path / "s", "time_machine", lambda book, start: 2 + noise(book, start) / 10, STARTS, 156_085)
    found = war_of_the_worlds.findings(load_jobs(tmp_path / "s"))
    assert [row[0] for row in found.rows[:2]] == ["The Time Machine", "The War of the Worlds"]
    assert found.columns[2::2] == ["after 10,032, bits", "after 156,085, bits"]
    verdicts = [row[3].partition(", ")[2] for row in found.rows]
    assert sorted(verdicts) == ["", "", "", "", "easier", "harder", "harder", "harder"]
    perplexity = 2 ** fmean(2 + noise(WELLS[1], start) / 10 for start in STARTS)
    assert f"{perplexity:.2f}" in found.answer
    # The interval of a difference is that of scipy's paired test.
    pride = {row[0]: row for row in found.rows}["Pride and Prejudice"]
    values = [[of_the_time_machine(book, start) for start in STARTS] for book in ("pride_and_prejudice", WELLS[1])]
    interval = stats.ttest_rel(*values).confidence_interval(0.95)
    mean, half = (interval.low + interval.high) / 2, (interval.high - interval.low) / 2
    assert pride[3] == f"{mean:+.3f} ± {half:.3f}, harder"
    assert found.notes[1].endswith(": -0.250 ± 0.000.")  # of the n-gram


def of_authors(trained_on: str) -> Callable[[str, int], float]:
    """The own model leads by 0.1, one of the same author by 0.05; excerpts differ by more."""

    def bits(book: str, start: int) -> float:
        kin = CATALOGUE[book].author == CATALOGUE[trained_on].author
        gap = 0.0 if book == trained_on else 0.05 if kin else 0.1
        return 3 + noise(book, start) + gap + 0.01 * noise(trained_on, book, start)

    return bits


def test_models_are_compared_by_excerpt(tmp_path: Path) -> None:
    names = (*WELLS, *DOYLE, "alices_adventures_in_wonderland")
    for name in names:
        leave(tmp_path / "s", name, of_authors(name), STARTS)
    found = other_authors.findings(load_jobs(tmp_path / "s"))
    cells = {row[0]: dict(zip(found.columns, row, strict=True)) for row in found.rows}
    assert list(cells) == [CATALOGUE[name].title for name in names]  # those that nothing was trained on have no row
    assert [row["ahead"] for row in cells.values()] == ["4 of 4"] * 5
    assert cells["The Time Machine"]["mean lead, bits"].startswith("0.08")
    assert {"20", "0", "12", "0.05"} <= set(re.findall(r"[\d.]+", found.answer))
    assert "for all 32 comparisons" in found.notes[0]
    own, ngram = (float(cells["The Time Machine"][name].split()[0]) for name in ("own model, bits", "n-gram"))
    assert own - ngram == pytest.approx(0.25, abs=2e-3)


@pytest.mark.parametrize("exercise", ["war_of_the_worlds", "other_authors"])
def test_report_of_odd_jobs(exercise: str, tmp_path: Path) -> None:
    odd = {"the_lost_world": math.nan, "hound_of_the_baskervilles": math.inf}
    leave(tmp_path / "s", "time_machine", lambda book, start: odd.get(book, 3.0), range(2))
    leave(tmp_path / "s", "war_of_the_worlds", lambda book, start: 3.1, range(1, 3))
    leave_job(tmp_path / "s", {"seed": 0}, status="diverged")
    write_report(tmp_path / "s", exercise, load_jobs(tmp_path / "s"))
    report = (tmp_path / "s/report.md").read_text()
    assert report.count("![") == len(list(tmp_path.glob("s/*.png"))) == 1
    assert "1 diverged" in report and "nan" not in report.partition("## What was run")[0].lower()

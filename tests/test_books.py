"""The probe that reads books, and the two exercises that it answers, from jobs as they leave it."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from timemachine.corpus import CATALOGUE, Corpus, at_hand, find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.evaluation import window_score
from timemachine.exercises import other_authors, war_of_the_worlds
from timemachine.language_model import RNNLMScratch
from timemachine.probes import books
from timemachine.report import write_report
from timemachine.sweep import Job


def job(trained_on: str, seed: int, perplexities: dict[str, float], characters: int = 10_032, **given: Any) -> Job:
    """A job as the probe leaves it: `perplexities` of the stream; all else follows from them."""

    def score(perplexity: float) -> dict[str, float]:
        bits = math.log2(perplexity) if perplexity > 0 else math.nan
        return {"perplexity": perplexity, "standard_error": 0.05, "bits": bits, "num_targets": 120_000}

    probe = {
        "trained_on": trained_on,
        "title": CATALOGUE[trained_on].title,
        "author": CATALOGUE[trained_on].author,
        "train_characters": characters,
        "witten_bell_order": 4,
        "books": {
            name: {
                "title": CATALOGUE[name].title,
                "author": CATALOGUE[name].author,
                "window": score(value + 0.2),
                "stream": score(value),
                "laplace": score(9.5),
                "witten_bell": score(8.0),
            }
            for name, value in perplexities.items()
        },
    }
    return Job(
        Path(),
        given.get("status", "completed"),
        "",
        {"seed": seed, "data.corpus": trained_on},
        {},
        1.0,
        "",
        {"books": probe} if given.get("measured", True) else {},
    )


WELLS = ("time_machine", "war_of_the_worlds")
READ = dict(zip(CATALOGUE, [8.7, 8.8, 9.1, 8.5, 8.85, 8.5, 8.8, 9.0], strict=True))


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
    assert "on the unread rest of it. It has 8.80 (0.05) on The War of the Worlds" in found.answer
    assert (
        "harder: Pride and Prejudice (9.10), Adventures of Huckleberry Finn (9.00); easier: The Hound" in found.answer
    )
    assert "cannot be told apart: The Lost World (8.85), A Tale of Two Cities (8.80)." in found.answer


def test_a_difference_within_the_spread_of_the_seeds_is_none() -> None:
    lower = {"time_machine": 8.7, "war_of_the_worlds": 8.8, "the_lost_world": 9.0}
    jobs = [job("time_machine", 0, lower), job("time_machine", 1, lower | {"the_lost_world": 9.8})]
    assert "cannot be told apart: The Lost World (9.40)" in war_of_the_worlds.findings(jobs).answer
    assert "harder: The Lost World (9.00)" in war_of_the_worlds.findings(jobs[:1]).answer


def test_other_authors_is_training_book_by_book_read() -> None:
    jobs = [
        job(name, seed, READ | {name: 7.0}) for name in (*WELLS, "the_lost_world") for seed in (0, 1)
    ]  # each book best known to its own model
    found = other_authors.findings(jobs)
    assert [row[:4] for row in found.rows[:2]] == [
        ["The Time Machine", "H. G. Wells", "2", "model"],
        ["The Time Machine", "H. G. Wells", "", "n-gram"],
    ]
    assert sorted(found.columns[4:]) == sorted(book.title for book in CATALOGUE.values())
    assert found.columns[4:7] == [row[0] for row in found.rows[::2]]
    assert found.rows[0][4:6] == ["7.00 ± 0.00", "8.80 ± 0.00"]
    assert found.answer.startswith("Of 3 books, 3 are predicted best by the model trained on the beginning of the same")
    assert "The War of the Worlds is predicted from The Time Machine, by the same author, with 8.80" in found.answer
    assert "ahead of the model in 21 of 24 cells" in found.answer


@pytest.mark.parametrize("exercise", ["war_of_the_worlds", "other_authors"])
@pytest.mark.parametrize(
    "jobs",
    [
        [],
        [job("time_machine", 0, {}, measured=False, status="failed")],
        [job("time_machine", 0, {})],
        [job("time_machine", 0, {"time_machine": 8.7})],
        [job("war_of_the_worlds", 0, READ), job("time_machine", 0, {}, measured=False, status="diverged")],
        [job("time_machine", 0, READ | {"war_of_the_worlds": math.nan, "the_lost_world": math.inf})],
        [job("time_machine", 0, dict.fromkeys(READ, math.nan)), job("the_lost_world", 0, READ)],
        [job("time_machine", 0, READ), job("time_machine", 1, {"time_machine": math.e**700})],
        [job("time_machine", 0, READ), job("the_lost_world", 1, {"time_machine": 9.0, "the_lost_world": 8.0})],
    ],
)
def test_a_report_is_written_of_whatever_jobs_left(
    exercise: str, jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("timemachine.report.load_jobs", lambda folder: jobs)
    write_report(tmp_path, exercise)
    report = (tmp_path / "report.md").read_text()
    measured = [job for job in jobs if job.probes and job.probes["books"]["books"]]
    assert report.count("![") == len(list(tmp_path.glob("*.png"))) == bool(measured)
    assert ("Left out: 1 of" in report) == (len(measured) < len(jobs))
    assert "nan" not in report.partition("## Answer")[2]

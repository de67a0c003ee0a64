"""The report of any sweep, also of unfinished ones, and which runs a report rejects."""

import re
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pandas import DataFrame

from tests.support.jobs import leave_job
from tests.support.runs import table
from timemachine.__main__ import main
from timemachine.errors import SettingError
from timemachine.exercises import clipping
from timemachine.study import generic, report
from timemachine.study.jobs import have_one_text, load_jobs, metric_of, rows_of


def test_no_job_has_ended(tmp_path: Path) -> None:
    leave_job(tmp_path, {"seed": 0}, status="running")
    report.write_report(tmp_path, "clipping", load_jobs(tmp_path))
    assert {path.name for path in tmp_path.glob("*.*")} == {"report.md", "summary.csv"}


def test_an_exercise_is_not_a_path(tmp_path: Path) -> None:
    leave_job(tmp_path, {"seed": 0}, exercise="../reference/clipping")
    report.write_report(tmp_path, "../reference/clipping", load_jobs(tmp_path))
    assert "reference sweep" not in (tmp_path / "report.md").read_text()


def test_texts_of_the_table_are_no_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A spreadsheet would compute formulas, and a terminal obeys control characters. Numbers stay numbers."""
    for seed, text in enumerate(("=HYPERLINK(1)", "\x1b[31mred")):
        leave_job(tmp_path, {"seed": seed, "data": {"corpus": text}}, metrics={"val/perplexity": -7.5})
    report.write_report(tmp_path, "none", load_jobs(tmp_path))
    rows = [(row["data.corpus"], row["val/perplexity"]) for row in table(tmp_path / "summary.csv")]
    assert rows == [("'=HYPERLINK(1)", "-7.5"), ("\x1b[31mred", "-7.5")]
    printed = capsys.readouterr().out
    assert "[31mred" in printed and "\x1b" not in printed


def test_report_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (10, 2):
        leave_job(tmp_path / "index", {"seed": number}, number=number, metrics={"val/perplexity": 7.5})
    main(["report", "."])
    printed = capsys.readouterr().out
    assert re.search(r"index/2 +completed +2 +7\.500\n.*index/10 +completed +10 +7\.500\n", printed, re.S)
    assert re.search(r"\| the run +\| 2 +\| 2 +\| 7.50 ± 0.00 +\|", (tmp_path / "report.md").read_text())
    (tmp_path / "report.md").unlink()
    (tmp_path / "report.md").mkdir()  # a file that cannot be written, also by root
    for folder in ("nowhere", "."):
        with pytest.raises(SystemExit, match=r"^error: [^\n]*$"):
            main(["report", folder])


def test_runs_and_sweeps_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs, which record `data.seed`, and the jobs of a sweep are rows of one table, with a figure for slides."""
    epochs = [{"epoch": epoch, "val/perplexity": 9.0 - epoch} for epoch in (1, 2)]
    for place, lr in (("run", 1.0), ("sweep", 1.0), ("sweep", 2.0)):
        settings = {"seed": 0, "data": {"seed": 0}, "model": {"lr": lr}}
        leave_job(tmp_path / place, settings, metrics={"val/perplexity": 7 * lr}, tables={"metrics": epochs})
    main(["report", "run/0", "sweep", "format=svg", "width=5"])
    assert "  run/0 " in capsys.readouterr().out
    (written,) = (tmp_path / "outputs/comparison").iterdir()
    assert {path.name for path in written.iterdir()} == {"summary.csv", "report.md", "figure.png", "figure.svg"}
    assert (tmp_path / "run/0/perplexity.svg").exists() and 'width="360pt"' in (written / "figure.svg").read_text()
    rows = [line for line in (written / "report.md").read_text().splitlines() if line.startswith("| lr=")]
    assert [row.split("|")[1].strip() for row in rows] == ["lr=1", "lr=2"]


def test_the_machines_of_the_runs(tmp_path: Path) -> None:
    """Not the one on which the report is written, maybe again."""
    for seed, machine in enumerate(["64 cores, arm64", "64 cores, arm64", "3 cores, riscv64"]):
        leave_job(tmp_path / "s", {"seed": seed}, metrics={"val/perplexity": 7.0}, machine=machine)
    assert report.effort(load_jobs(tmp_path / "s")).endswith(" after another. 64 cores, arm64; 3 cores, riscv64.")


def test_generic_report(tmp_path: Path) -> None:
    """Two settings and the seed vary. One run diverged, one was killed and one left no files."""
    sweep = tmp_path / "plain"
    epochs = [{"epoch": epoch, "val/perplexity": 20.0 - epoch} for epoch in (1, 2, 3)]
    for hiddens, lr in ((16, 1.0), (32, 1.0), (32, 8.0)):
        for seed in (0, 1):
            settings = {"seed": seed, "model": {"hiddens": hiddens, "lr": lr}, "data": {"corpus": "[b]a|b"}}
            metrics = {"epoch": 3, "val/perplexity": hiddens / 4 + seed}
            status = "diverged" if lr == 8 and seed == 1 else "completed"
            leave_job(sweep, settings, status=status, metrics=metrics, tables={"metrics": epochs})
    leave_job(sweep, settings | {"seed": 2}, status="running")
    leave_job(sweep, {"data": {}}, status="failed", seconds=0.0)
    report.write_report(sweep, "mine", load_jobs(sweep))
    text = (sweep / "report.md").read_text()
    rows = [re.split(r" *\| *", line)[1:-1] for line in text.splitlines() if line.startswith("| ")]
    assert rows == [
        ["settings", "runs", "completed", "val/perplexity"],
        ["hiddens=16, lr=1", "2", "2", "4.50 ± 6.35"],
        ["hiddens=32, lr=1", "2", "2", "8.50 ± 6.35"],
        ["hiddens=32, lr=8", "2", "1", "8.00"],
    ]
    assert "Varied: `seed`: 0, 1; `model.hiddens`: 16, 32; `model.lr`: 1, 8." in text
    assert "8 runs (5 completed, 1 diverged, 2 failed) in 0.2 minutes; 1.4 one after another." in text
    assert (sweep / "figure.png").stat().st_size > 1000


@pytest.mark.parametrize("lrs", [(1.0,), (1.0, 2.0)])
def test_report_of_another_metric(lrs: tuple[float, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A search over a custom module, which logs no perplexity: table, best job and figure have its metric."""
    epochs = [{"epoch": epoch, "val/loss": 3.0 / epoch} for epoch in (1, 2)]
    for hiddens, lr in product((16, 32), lrs):
        settings = {"optimized_metric": "val/loss", "model": {"hiddens": hiddens, "lr": lr}}
        metrics, typed = {"epoch": 2, "val/loss": 1.5 - hiddens / 100}, [f"model.hiddens={hiddens}"]
        leave_job(tmp_path / "s", settings, metrics=metrics, tables={"metrics": epochs}, overrides=typed)
    report.write_report(tmp_path / "s", "none", load_jobs(tmp_path / "s"))
    jobs = DataFrame(rows_of(load_jobs(tmp_path / "s")))
    assert [*generic.table(jobs)["val/loss"].map(lambda value: value.mean)] == [1.18] * len(lrs) + [1.34] * len(lrs)
    axes, *_ = generic.figure(jobs).axes
    assert "val/loss" in (axes.get_ylabel(), axes.get_title()) and (axes.lines or axes.images)
    assert "1.180" in (tmp_path / "s/report.md").read_text()  # more digits than a perplexity's
    printed = capsys.readouterr().out
    assert "1.180" in printed and "python train.py model.hiddens=32" in printed


def sweep_of(**settings: list[Any]) -> DataFrame:
    """Return completed runs with these values, whose metric is their number."""
    jobs = DataFrame(settings).rename(columns=lambda name: f"model.{name}")
    return jobs.assign(status="completed", folder="", **{"val/perplexity": np.arange(1.0, len(jobs) + 1)})


def test_heat_map_has_a_cell_for_null() -> None:
    jobs = sweep_of(lr=[1.0, 2.0, 1.0, 2.0, 2.0], clip=[None, None, 0.5, 0.5, 0.5])
    axes, _ = generic.figure(jobs).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "2"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.5", "null"]
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells == {(1, 0): "1.000", (1, 1): "2.000", (0, 0): "3.000", (0, 1): "4.500 ± 0.500"}


def test_heat_map_has_no_colour_where_a_seed_diverged() -> None:
    """The only seed of three that completed has the best value of all; no seed of another cell completed."""
    jobs = sweep_of(lr=[1.0] * 4 + [2.0] * 5, hiddens=[8, 8, 16, 16, 8, 8, 8, 16, 16])
    jobs["seed"] = [0, 1, 0, 1, 0, 1, 2, 0, 1]
    jobs["val/perplexity"] += 10
    jobs.loc[4, "val/perplexity"] = 5
    jobs.loc[[5, 6, 7, 8], "status"] = "diverged"
    axes, bar = generic.figure(jobs).axes
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert "1 of 3" in cells[0, 1] and "±" not in cells[0, 1] and "±" in cells[0, 0] and cells[1, 1] == "diverged"
    assert np.ma.getmaskarray(np.ma.asarray(axes.images[0].get_array())).tolist() == [[False, False], [True, True]]
    assert axes.images[0].get_clim() == (11.5, 13.5) and "lower is better" in bar.get_ylabel()


@pytest.mark.parametrize(("vocabularies", "texts"), [((28, 1025), ("a", "a")), ((28, 28), ("a", "b"))])
def test_jobs_of_other_vocabularies_and_texts(
    vocabularies: tuple[int, int], texts: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bits per byte compare vocabularies. Of two texts no job is the best: the jobs keep their order."""
    is_one_text = texts[0] == texts[1]
    of_vocabulary = zip(vocabularies, texts, (2.9, 2.4), (7.5, 98.0), strict=True)
    for vocabulary, sha256, bits, perplexity in sorted(of_vocabulary, reverse=not is_one_text):
        settings = {"seed": 0, "data": {"corpus": sha256, "vocab_size": vocabulary}}
        corpus = {"sha256": sha256, "vocabulary": vocabulary}
        metrics = {"val/perplexity": perplexity, "val/bits_per_byte": bits}
        leave_job(tmp_path / "s", settings, metrics=metrics, corpus=corpus, overrides=[f"data.vocab_size={vocabulary}"])
    report.write_report(tmp_path / "s", "none", load_jobs(tmp_path / "s"))
    printed, summary = capsys.readouterr().out, (tmp_path / "s/summary.csv").read_text()
    assert ("best " in printed) == is_one_text and "val/bits_per_byte" in summary and "sha256" not in summary
    jobs = DataFrame(rows_of(load_jobs(tmp_path / "s")))
    assert ("lowest" in printed) == have_one_text(jobs) == is_one_text
    assert metric_of(jobs) == ("val/bits_per_byte" if is_one_text else "val/perplexity")
    assert [cell.mean for cell in generic.table(jobs)["val/perplexity"]] == [98.0, 7.5]
    assert generic.figure(jobs).axes[0].get_ylabel() == metric_of(jobs)


def test_a_panel_for_each_setting_of_a_search() -> None:
    """Two settings, as a search tries other pairs in each run."""
    lrs = [*np.geomspace(0.1, 10, 20)]
    jobs = sweep_of(lr=lrs, hiddens=[*range(20)])
    jobs.loc[2, "status"] = "diverged"
    left, right = generic.figure(jobs).axes
    assert left.get_xlabel() == "model.lr" and left.get_xscale() == "log" and right.get_xscale() == "linear"
    points, crosses = left.lines  # no line through the means of single runs
    assert np.size(points.get_xdata()) == 20 and np.asarray(crosses.get_xdata()) == [lrs[2]]


def test_repeated_seed_counts_once(tmp_path: Path) -> None:
    """The logger, which may record the typed words, makes no difference."""
    for seed, val in ((3, 7.5), (3, 7.5), (4, 8.5)):
        settings = {"seed": seed, "logger": {"wandb": {"changes": f"seed={seed}"}}}
        leave_job(tmp_path / "s", settings, metrics={"val/perplexity": val})
    (cell,) = generic.table(DataFrame(rows_of(load_jobs(tmp_path / "s"))))["val/perplexity"]
    assert f"{cell}" == "8.00 ± 6.35"


def test_runs_that_a_table_would_mix_are_rejected() -> None:
    settings = {"seed": 0, "data.start": 0, "model.lr": 1.0, "trainer.gradient_clip_val": None}
    jobs = DataFrame([settings | {"model.hiddens": hiddens} for hiddens in (32, 64)])
    with pytest.raises(SettingError, match=r"model\.hiddens"):
        report.require_told_apart(jobs, clipping.SETTINGS)
    report.require_told_apart(jobs.assign(**{"model.lr": [1.0, 2.0]}), clipping.SETTINGS)
    report.require_told_apart(jobs, None)


def test_missing_probe_is_named(tmp_path: Path) -> None:
    settings = {"seed": 0, "model": {"lr": 1.0}, "trainer": {"gradient_clip_val": 1.0}}
    leave_job(tmp_path / "s", settings, metrics={"val/perplexity": 7.5, "largest_grad_norm": 1.0})
    with pytest.raises(SettingError, match="trigrams/val"):
        report.write_report(tmp_path / "s", "clipping", load_jobs(tmp_path / "s"))

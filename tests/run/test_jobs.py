"""A sweep's table, on the terminal too, and how a sweep ends."""

import csv
import math
import re
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

import pytest
from omegaconf import OmegaConf

from tests.support.jobs import leave_job
from timemachine.cli import sweep
from timemachine.run import jobs as run_jobs
from timemachine.run.console import print_table
from timemachine.run.jobs import load_jobs, load_sweep, print_jobs, table_of
from timemachine.run.record import read_summary


def job(folder: Path, number: int, status: str = "completed", message: str | None = None, **settings: Any) -> None:
    """A folder as train.py leaves it."""
    settings = {"seed": 0, "model": {"hiddens": 32, "lr": 1.0}, "logger": {"wandb": None}} | settings
    metrics = {} if status in ("failed", "running") else {"val/perplexity": 7.5 + number, "epoch": 100}
    leave_job(folder, settings, status=status, number=number, message=message, metrics=metrics)


def end_sweep(folder: Path) -> None:
    """End the sweep whose jobs are in the folder, as Hydra does."""
    sweep.end(OmegaConf.create({"hydra": {"sweep": {"dir": str(folder)}}}))


def test_row_per_job(tmp_path: Path) -> None:
    """In the order of the jobs' numbers."""
    for number, hiddens, seed in [(10, 32, 0), (2, 16, 1), (0, 16, 0), (11, 32, 1)]:
        job(tmp_path, number, seed=seed, model={"hiddens": hiddens, "lr": 1.0})
    (tmp_path / "report").mkdir()
    rows = table_of(load_jobs(tmp_path))
    varying = {"seed": 1, "model.hiddens": 16}
    first, last = {"job": "2", "status": "completed"}, {"message": "", "folder": str(tmp_path / "2")}
    assert rows[1] == first | varying | {"val/perplexity": 9.5, "epoch": 100} | last
    found = [(row["job"], row["model.hiddens"], row["seed"]) for row in rows]
    assert found == [("0", 16, 0), ("2", 16, 1), ("10", 32, 0), ("11", 32, 1)]


def test_settings_of_any_kind_may_vary(tmp_path: Path) -> None:
    for number, wandb in enumerate([None, {"project": "timemachine"}, {"project": [0, 1]}]):
        job(tmp_path, number, logger={"wandb": wandb})
    known = {"job", "status", "val/perplexity", "epoch", "message", "folder"}
    assert table_of(load_jobs(tmp_path))[0].keys() - known == {"logger.wandb.project"}


def test_number_of_symbols_in_rows(tmp_path: Path) -> None:
    """Perplexities of more symbols, or of fewer that are unknown, are no worse for being higher."""
    for min_count, vocabulary, unknown in ((1, 60, 0), (9, 20, 700)):
        settings = {"data": {"min_count": min_count}}
        leave_job(tmp_path, settings, corpus={"vocabulary": vocabulary, "unknown": unknown, "characters": 9_000})
    columns = ("data.min_count", "vocabulary", "unknown")
    assert [tuple(row[name] for name in columns) for row in table_of(load_jobs(tmp_path))] == [(1, 60, 0), (9, 20, 700)]
    assert "characters" not in table_of(load_jobs(tmp_path))[0]


def test_rows_of_failed_jobs(tmp_path: Path) -> None:
    job(tmp_path, 0, seed=0)
    job(tmp_path, 1, "failed", "model.lr=-1: must be positive", seed=1)
    job(tmp_path, 2, "running", seed=2)
    (tmp_path / "3/.hydra").mkdir(parents=True)
    (tmp_path / "4").mkdir()
    (tmp_path / "4/summary.json").write_text('{"status": "comp')
    rows = table_of(load_jobs(tmp_path))
    assert [row["status"] for row in rows] == ["completed", "failed", "failed", "failed", "failed"]
    assert [row["seed"] for row in rows] == [0, 1, 2, "", ""]
    assert [row["val/perplexity"] for row in rows] == [7.5, "", "", "", ""]
    assert "model.hiddens" not in rows[0]  # that it is not known does not make it vary
    assert [row["message"] for row in rows][:2] == ["", "model.lr=-1: must be positive"]
    assert all(row["message"] for row in rows[2:])


def test_sweep_fails_with_a_job(tmp_path: Path) -> None:
    for number, status in enumerate(["completed", "diverged"]):  # which is a result
        job(tmp_path, number, status)
    end_sweep(tmp_path)
    for number, status in ((2, "failed"), (3, "running")):  # killed
        job(tmp_path, number, status)
    with pytest.raises(SystemExit, match=r"^error: 2 of 4 jobs failed \(job 2, 3\)"):
        end_sweep(tmp_path)


def test_tables_show_any_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job(tmp_path, 0, data={"corpus": '[b]old,\n"a".txt'})
    job(tmp_path, 1, "failed", "model.lr=-1: [must] be positive", data={"corpus": "a[/b]"})
    with pytest.raises(SystemExit):
        end_sweep(tmp_path)
    with (tmp_path / "summary.csv").open(newline="") as file:
        assert [*csv.DictReader(file)] == [{k: str(v) for k, v in row.items()} for row in table_of(load_jobs(tmp_path))]
    out = capsys.readouterr().out
    assert all(text in out for text in ("7.5", "[b]old", "a[/b]"))
    assert "table         summary.csv\nreport        report.md\n" in out


def test_texts_are_no_formulas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In summary.csv; nor does ESC reach it or the terminal. Numbers stay numbers, and `load_sweep` has the texts."""
    texts = ["=1+1", "+1", "-1", "@a", "\t=1", "plain", "\x1b[31mred"]
    for number, text in enumerate(texts):
        leave_job(tmp_path, {"data": {"corpus": text}}, metrics={"val/perplexity": -1.5, "epoch": number})
    end_sweep(tmp_path)
    with (tmp_path / "summary.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["data.corpus"] for row in rows] == ["'=1+1", "'+1", "'-1", "'@a", "'\\t=1", "plain", "\\x1b[31mred"]
    assert {row["val/perplexity"] for row in rows} == {"-1.5"}
    assert [row["data.corpus"] for row in load_sweep(tmp_path)] == texts
    assert "\x1b" not in (tmp_path / "summary.csv").read_text() + capsys.readouterr().out


def test_each_summary_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a sweep ends."""
    for number in range(3):
        job(tmp_path, number, seed=number)
    reads = Mock(wraps=read_summary)
    monkeypatch.setattr(run_jobs, "read_summary", reads)
    end_sweep(tmp_path)
    assert reads.call_args_list == [call(tmp_path / name) for name in "012"]


def test_printed_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = [("completed", 0.01, 12.25), ("completed", 1.0, 7.5), ("diverged", 1e30, math.inf), ("interrupted", 2.0, 7)]
    for number, (status, lr, perplexity) in enumerate(ended):
        clips = {"gradient_clip_val": None if number else 0.5}
        metrics = {"val/perplexity": float(perplexity), "epoch": 100}
        leave_job(tmp_path, {"model": {"lr": lr}, "trainer": clips}, status=status, number=number, metrics=metrics)
    print_jobs(table_of(load_jobs(tmp_path)))
    printed = capsys.readouterr().out.splitlines()
    assert [line.rstrip() for line in printed if line.strip()] == [
        "perplexity of each job",
        "  job   status        model.lr   trainer.gradient_clip_val      val",
        f" {'─' * 67}",
        "    0   completed         0.01                         0.5   12.250",
        "    1   completed            1                        null    7.500",
        "    2   diverged         1e+30                        null      inf",
        "    3   interrupted          2                        null    7.000",
    ]


def test_settings_without_room_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"model.setting_{number}" for number in range(9)]
    for number in range(2):
        settings: dict[str, Any] = dict.fromkeys(names, number)
        job(tmp_path, number, **settings)
    print_jobs(table_of(load_jobs(tmp_path)))
    table, _, left_out = capsys.readouterr().out.partition("in summary.csv: ")
    assert [name for name in names if name in table] + left_out.strip().split(", ") == names


def test_unwritable_table_fails(tmp_path: Path) -> None:
    """Hydra makes a warning of an exception there."""
    job(tmp_path, 0)
    (tmp_path / "summary.csv").mkdir()
    with pytest.raises(SystemExit, match=f"^error: {tmp_path}/summary.csv: Is a directory; .* resume={tmp_path}$"):
        end_sweep(tmp_path)


@pytest.mark.parametrize(("width", "is_terminal"), [(62, True), (80, True), (20, False)])
def test_table_fits_the_terminal(
    width: int, is_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a pipe, each row is one line."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    columns = ("job", "training.input_dropout", "val/perplexity", "text")
    row = ("1", "0.2905", "1,234.5 ±10.25", ":smile: [bold]war of the worlds")
    print_table("jobs", columns, [row])
    printed = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out)
    assert set(" ".join([*columns, *row]).split()) <= set(printed.split())
    if is_terminal:
        assert max(len(line.rstrip()) for line in printed.splitlines()) <= width
    else:
        assert any(set(" ".join(row).split()) <= set(line.split()) for line in printed.splitlines())

"""The table of a sweep; test_report.py has its print."""

import shutil
from pathlib import Path
from typing import Any

from tests.support.jobs import leave_job
from timemachine.study.jobs import is_setting, load_jobs, load_sweep, rows_of, table_of


def job(folder: Path, number: int, status: str = "completed", message: str | None = None, **settings: Any) -> None:
    """Leave the folder of a job in the format of train.py."""
    settings = {"seed": 0, "model": {"hiddens": 32, "lr": 1.0}, "logger": {"wandb": None}} | settings
    metrics = {} if status in ("failed", "running") else {"val/perplexity": 7.5 + number, "epoch": 100}
    leave_job(folder, settings, status=status, number=number, message=message, metrics=metrics)


def test_row_per_job(tmp_path: Path) -> None:
    """Rows are sorted by job number."""
    for number, hiddens, seed in [(10, 32, 0), (2, 16, 1), (0, 16, 0), (11, 32, 1)]:
        job(tmp_path, number, seed=seed, model={"hiddens": hiddens, "lr": 1.0})
    (tmp_path / "report").mkdir()
    rows = load_sweep(tmp_path)
    varying = {"seed": 1, "model.hiddens": 16}
    first, last = {"job": "2", "status": "completed"}, {"message": None, "folder": str(tmp_path / "2")}
    assert rows[1] == first | varying | {"val/perplexity": 9.5, "epoch": 100} | last
    found = [(row["job"], row["model.hiddens"], row["seed"]) for row in rows]
    assert found == [("0", 16, 0), ("2", 16, 1), ("10", 32, 0), ("11", 32, 1)]


def test_copies_of_settings_are_no_columns(tmp_path: Path) -> None:
    """Jobs differ in the places of their files; data.seed follows seed, and an exercise's rates are in model."""
    for seed in (0, 1):
        callbacks = {"tables": {"folder": f"sweep/{seed}"}, "best_checkpoint": {"dirpath": f"sweep/{seed}/checkpoints"}}
        plugins = [{"folder": f"sweep/{seed}/checkpoints"}]
        others: dict[str, Any] = {"data": {"seed": seed}, "rates": {"lr": 0.1 + seed}}
        job(tmp_path, seed, seed=seed, callbacks=callbacks, trainer={"plugins": plugins}, **others)
    assert [name for name in table_of(rows_of(load_jobs(tmp_path))) if is_setting(name)] == ["seed"]
    job(tmp_path, 2, seed=1, data={"seed": 2})  # typed
    assert [*table_of(rows_of(load_jobs(tmp_path)))["data.seed"]] == [0, 1, 2]


def test_number_of_symbols_in_rows(tmp_path: Path) -> None:
    """Perplexity depends on the number of symbols and of unknown characters, so the table shows both."""
    for min_count, vocabulary, unknown in ((1, 60, 0), (9, 20, 700)):
        settings = {"data": {"min_count": min_count}}
        leave_job(tmp_path, settings, corpus={"vocabulary": vocabulary, "unknown": unknown, "characters": 9_000})
    columns = ("data.min_count", "vocabulary", "unknown")
    rows = load_sweep(tmp_path)
    assert [tuple(row[name] for name in columns) for row in rows] == [(1, 60, 0), (9, 20, 700)]
    assert "characters" not in rows[0]
    shutil.rmtree(tmp_path / "1")
    leave_job(tmp_path, {"data": {"min_count": 1}}, status="failed", message="no text")
    assert "vocabulary" not in load_sweep(tmp_path)[0]  # a run without a text is no variation


def test_rows_of_failed_jobs(tmp_path: Path) -> None:
    job(tmp_path, 0, seed=0)
    job(tmp_path, 1, "failed", "model.lr=-1: must be positive", seed=1)
    job(tmp_path, 2, "running", seed=2)  # killed
    leave_job(tmp_path, {"data": {}}, status="failed", message="settings that cannot be read")
    (tmp_path / "4").mkdir()
    (tmp_path / "4/summary.json").write_text('{"status": "comp')
    rows = load_sweep(tmp_path)
    assert [row["status"] for row in rows] == ["completed", "failed", "failed", "failed", "damaged"]
    assert [row["seed"] for row in rows] == [0, 1, 2, None, None]
    assert [row["val/perplexity"] for row in rows] == [7.5, None, None, None, None]
    assert "model.hiddens" not in rows[0]  # a missing value does not make a setting vary
    assert [row["message"] for row in rows][:2] == [None, "model.lr=-1: must be positive"]
    assert all(row["message"] for row in rows[2:])

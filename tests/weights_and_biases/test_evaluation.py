"""evaluate.py with logger=wandb: its table arrives in the run that it read, online and offline."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Program
from tests.support.programs import assert_succeeded
from tests.support.wandb_runs import SHORT, unfinished, wandb_command
from tests.support.wandb_server import ArrivedRun, WandbServer
from timemachine.errors import SettingError
from timemachine.evaluation.tables import COLUMNS
from timemachine.runs.summaries import read_summary
from timemachine.weights_and_biases.evaluation import run_in_wandb

ADAPTED = "adapt=0.01"


def table(run: ArrivedRun) -> list[list[Any]]:
    """The rows of the last table."""
    (content,) = run.artifacts[f"run-{run.name}-evaluation"].values()
    found = json.loads(content)
    assert found["columns"] == COLUMNS
    rows: list[list[Any]] = found["data"]
    return rows


def assert_has_both(run: ArrivedRun, folder: Path) -> None:
    """The table has the rows of both calls, and the run's own numbers are still there."""
    rows = {(row[1], row[2]): row for row in table(run)}
    parts = ("train", "val", "test")
    assert list(rows)[:3] == [(part, "model") for part in parts]
    assert {("val", "6-gram, Kneser-Ney"), ("val", "mixture of n-grams"), ("val", "model, adapting")} <= rows.keys()
    metrics = read_summary(folder)["metrics"]
    assert rows["val", "model"][4] == pytest.approx(metrics["val/perplexity"], rel=1e-6)
    assert rows["val", "model"][8] == pytest.approx(math.log2(rows["val", "model"][6]))
    assert run.summary["evaluation/sample/val/model/stream"] == rows["val", "model"][6]
    assert run.summary["evaluation/sample/val/model, adapting/stream"] == rows["val", "model, adapting"][6]
    assert run.summary.items() >= (metrics | {"status": "completed"}).items()
    assert (run.tags, run.exit_code, run.job_type) == ([], 0, "train")


@pytest.mark.slow
def test_the_table_is_added_to_the_run_online(program: Program, tmp_path: Path) -> None:
    with WandbServer() as server:
        program("train.py", *SHORT, **server.environment())
        (run,) = server.runs.values()
        name, config = run.display_name, dict(run.config)
        for more in ("baselines=true", ADAPTED):
            done = program("evaluate.py", "run=run", "logger=wandb", more, **server.environment())
            assert_succeeded(done)
            assert f"W&B           {server.url}/tester/timemachine/runs/{run.name}\n" in done.stdout
    assert not server.unknown
    assert list(server.runs.values()) == [run]
    assert (run.display_name, run.config) == (name, config)
    assert_has_both(run, tmp_path / "run")


@pytest.mark.slow
def test_the_table_is_added_to_the_run_offline(program: Program, tmp_path: Path) -> None:
    program("train.py", *SHORT)
    for more in ("baselines=true", ADAPTED):
        done = program("evaluate.py", "run=run", "logger=wandb", more)
        assert_succeeded(done)
    state, command = unfinished(done.stdout)
    assert state == "offline"
    with WandbServer() as server:
        wandb_command(command, tmp_path, **server.environment())
    assert not server.unknown
    (run,) = server.runs.values()
    assert_has_both(run, tmp_path / "run")
    assert run.config.items() >= read_summary(tmp_path / "run")["settings"].items()


@pytest.mark.parametrize(
    ("runs", "logged", "expected"),
    [
        (["run"], False, "run=run: was not logged to W&B"),
        (["run", "run"], True, "logger=wandb: a table belongs to one run"),
        (["run/model.safetensors"], True, "run=run/model.safetensors: logger=wandb expects a folder"),
    ],
)
def test_a_table_belongs_to_one_run_that_is_in_wandb(
    runs: list[str], logged: bool, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run").mkdir()
    with pytest.raises(SettingError, match=f"^{re.escape(expected)}"):
        run_in_wandb(runs, {"wandb": "abcd"} if logged else {})

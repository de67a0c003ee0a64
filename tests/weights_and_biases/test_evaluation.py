"""evaluate.py with logger=wandb: its table arrives in the run that it read, online and offline."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Program
from tests.support.programs import assert_succeeded, call_program
from tests.support.wandb_server import ArrivedRun, WandbServer
from tests.weights_and_biases.test_wandb import SHORT, unfinished, wandb_command
from timemachine.evaluation.tables import COLUMNS
from timemachine.runs.summaries import read_summary

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


def test_without_it_evaluate_stays_local(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program("train.py", *SHORT, "logger=csv")
    before = sorted((tmp_path / "run").rglob("*"))
    with WandbServer() as server:
        done = program("evaluate.py", "run=run", **server.environment())
    assert_succeeded(done)
    assert not server.asked
    assert sorted((tmp_path / "run").rglob("*")) == before
    for arguments, said in (
        (["run=run"], "error: run=run: was not logged to W&B; type the folder of a run that was, or logger=csv\n"),
        (["run=[run,run]"], "error: logger=wandb: a table belongs to one run; type run=<the folder of one>\n"),
        (["run=run/model.safetensors"], "error: run=run/model.safetensors: is a file, which has no place for W&B's; "
         "type the folder of its run\n"),
    ):  # fmt: skip
        refused = call_program("evaluate.py", *arguments, "logger=wandb")
        assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", said)
    refused = call_program("evaluate.py", "run=run", "logger=tensorboard")
    assert refused.stderr == ("error: logger=tensorboard: evaluate.py logs to W&B or not at all; type logger=wandb\n")


@pytest.mark.slow
def test_rows_that_a_stranger_left_are_taken_or_told_in_one_line(program: Program, tmp_path: Path) -> None:
    program("train.py", *SHORT)
    for content in ("[1", '{"a": 1}', '[[["a"]]]', "[[1, 2, 3, 4]]", "null"):
        (tmp_path / "run/wandb/evaluation.json").write_text(content)
        done = program("evaluate.py", "run=run", "logger=wandb")
        assert done.returncode == 0 and done.stderr.count("\n") <= 1
        assert done.stderr.startswith("W&B           failed (" if done.stderr else "")

"""evaluate.py with logger=wandb: its table arrives in the run that it read, online and offline."""

import json
import math
import re
from pathlib import Path

import pytest

from tests.support.programs import Program, assert_succeeded
from tests.support.wandb_runs import SHORT, settings_in_wandb, unfinished, wandb_command
from tests.support.wandb_server import WandbServer
from timemachine.errors import SettingError
from timemachine.evaluation.scores import COLUMNS
from timemachine.runs.summaries import read_summary
from timemachine.weights_and_biases.evaluation import run_in_wandb


@pytest.mark.slow
@pytest.mark.parametrize("online", [True, False])
def test_the_table_is_added_to_the_run(online: bool, program: Program, tmp_path: Path) -> None:
    """The run's own numbers are still there."""
    with WandbServer() as server:
        environment = server.environment() if online else {}
        program("train.py", *SHORT, **environment)
        done = program("evaluate.py", "run=run", "logger=wandb", "baselines=true", "adapt=0.01", **environment)
        assert_succeeded(done)
        if not online:
            state, command = unfinished(done.stdout)
            assert state == "offline"
            wandb_command(command, tmp_path, **server.environment())
    assert not server.unknown
    (run,) = server.runs.values()
    (content,) = run.artifacts[f"run-{run.name}-evaluation"].values()
    table = json.loads(content)
    assert table["columns"] == COLUMNS
    rows = {(row[1], row[2]): row for row in table["data"]}
    assert list(rows)[:3] == [(part, "model") for part in ("train", "val", "test")]
    assert {("val", "6-gram, Kneser-Ney"), ("val", "mixture of n-grams"), ("val", "model, adapting")} <= rows.keys()
    summary = read_summary(tmp_path / "run")
    assert rows["val", "model"][4] == pytest.approx(summary["metrics"]["val/perplexity"], rel=1e-6)
    assert rows["val", "model"][8] == pytest.approx(math.log2(rows["val", "model"][6]))
    for name in ("model", "model, adapting"):
        assert run.summary[f"evaluation/sample/val/{name}/stream"] == rows["val", name][6]
    assert run.summary.items() >= (summary["metrics"] | {"status": "completed"}).items()
    assert (run.tags, run.exit_code, run.job_type) == ([], 0, "train")
    assert run.config.items() >= settings_in_wandb(summary).items()


@pytest.mark.parametrize(
    ("runs", "logged", "expected"),
    [
        (["run"], False, "run=run: was not logged to W&B"),
        (["run", "run"], True, "logger=wandb: a table belongs to one run"),
        (["run/model.safetensors"], True, "run=run/model.safetensors: logger=wandb expects a folder"),
    ],
)
def test_a_table_belongs_to_one_run_that_is_in_wandb(runs: list[str], logged: bool, expected: str) -> None:
    Path("run").mkdir()
    with pytest.raises(SettingError, match=f"^{re.escape(expected)}"):
        run_in_wandb(runs, {"wandb": "abcd"} if logged else {})

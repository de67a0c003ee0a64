"""evaluate.py with logger=wandb: its table arrives as a run of its own, online and offline."""

import json
import math
from pathlib import Path

import pytest

from tests.support.programs import Program, assert_succeeded
from tests.support.wandb_runs import SHORT, assert_arrived, unfinished, wandb_command
from tests.support.wandb_server import WandbServer
from timemachine.evaluation.scores import COLUMNS
from timemachine.run.record import read_summary


@pytest.mark.slow
@pytest.mark.parametrize("online", [True, False])
def test_the_table_is_a_run(online: bool, program: Program, tmp_path: Path) -> None:
    """The run that was read stays as it is."""
    with WandbServer() as server:
        environment = server.environment() if online else {}
        program("train.py", *SHORT, "logger.wandb.group=ours", **environment)
        done = program("evaluate.py", "run=run", "logger=wandb", "baselines=true", "adapt=0.01", **environment)
        assert_succeeded(done)
        if not online:
            state, command = unfinished(done.stdout)
            assert state == "offline"
            wandb_command(command, tmp_path, **server.environment())
    assert not server.unknown
    summary = read_summary(tmp_path / "run")
    assert_arrived(server.runs.pop(summary["wandb"]), tmp_path / "run")
    (run,) = server.runs.values()
    assert (run.group, run.job_type, run.exit_code, run.config["wandb"]) == ("ours", "evaluation", 0, summary["wandb"])
    (content,) = run.artifacts[f"run-{run.name}-evaluation"].values()
    table = json.loads(content)
    assert table["columns"] == COLUMNS
    rows = {(row[1], row[2]): row for row in table["data"]}
    assert list(rows)[:3] == [(part, "model") for part in ("train", "val", "test")]
    assert {("val", "6-gram, Kneser-Ney"), ("val", "mixture of n-grams"), ("val", "model, adapting")} <= rows.keys()
    assert rows["val", "model"][4] == pytest.approx(summary["metrics"]["val/perplexity"], rel=1e-6)
    assert rows["val", "model"][8] == pytest.approx(math.log2(rows["val", "model"][6]))
    for name in ("model", "model, adapting"):
        assert run.summary[f"evaluation/sample/val/{name}/stream"] == rows["val", name][6]

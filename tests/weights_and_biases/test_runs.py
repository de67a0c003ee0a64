"""train.py with W&B, on a local server: the data that arrive equal the files of the run."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import DDP, DEADLINE, Program, assert_succeeded, call_program
from tests.support.runs import rows, summary
from tests.support.wandb_server import ENTITY, KEY, ArrivedRun, WandbServer
from timemachine.run.tables import COLUMNS
from timemachine.weights_and_biases import CHANGES, EPOCH_METRICS, FIGURE, PROJECT

SHORT = ("data.corpus=sample", "data.num_train=2051", "trainer=cpu", "trainer.max_epochs=2", "model.hiddens=8")
RUN = (*SHORT, "hydra.run.dir=run")


def by(key: str, columns: Iterable[str], rows: Iterable[dict[str, Any]]) -> dict[int, dict[str, float]]:
    """Return the values of these columns by `key`, merging rows: the server stores test metrics in a separate row."""
    found: dict[int, dict[str, float]] = {}
    for row in rows:
        if numbers := {name: row[name] for name in columns if name in row}:
            found.setdefault(int(row[key]), {}).update(numbers)
    return found


def assert_arrived(run: ArrivedRun, folder: Path, resumed: bool = False) -> None:
    """Check that each number of the folder was uploaded once, and no others. Resumed runs keep earlier tests."""
    of_an_epoch = [name for name in EPOCH_METRICS if not (resumed and name.startswith("test/"))]
    written = by("epoch", of_an_epoch, rows(folder / "metrics.csv"))
    assert written and by("epoch", of_an_epoch, run.history) == written
    of_a_step, step = COLUMNS["steps.csv"][2:], "trainer/global_step"
    written = by("step", of_a_step, rows(folder / "steps.csv"))
    assert written and by(step, of_a_step, run.history) == written
    steps = [row[step] for row in run.history if "loss" in row]
    assert len(steps) == len(set(steps))


def sync(stdout: str, cwd: Path, server: WandbServer) -> None:
    """Upload an offline run or sweep with the command that train.py has printed once."""
    (command,) = re.findall(r"^W&B +offline; upload with: (.+)$", stdout, re.MULTILINE)
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = os.environ | {"PATH": programs} | server.environment()
    done = subprocess.run(command, shell=True, cwd=cwd, env=variables, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr


def test_a_run_arrives_whole(program: Program, tmp_path: Path) -> None:
    """No file has the key; torch's zip archives are uncompressed, so a search finds it."""
    typed = ["logger.wandb.project=two", "logger.wandb.group=three", "tags=[four]"]
    with WandbServer() as server:
        done = program("train.py", *RUN, *typed, **server.environment(), WANDB_RUN_ID="by_agent")
    assert_succeeded(done)
    assert server.runs.keys() == {"by_agent"} and not server.unknown and "upload with" not in done.stdout
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in files if KEY.encode() in path.read_bytes()] == [] and KEY not in done.stdout + done.stderr
    (run,), folder = server.runs.values(), tmp_path / "run"
    assert_arrived(run, folder)
    about = summary(folder)
    assert {name: run.config.get(name) for name in about["settings"]} == about["settings"]
    assert run.config[CHANGES].startswith("data.corpus=sample ")
    assert (run.project, run.group, run.tags, run.exit_code) == ("two", "three", ["four"], 0)
    assert b"completed: the sample text" in run.files["output.log"]  # W&B's console
    assert run.summary.items() >= (about["metrics"] | {"status": "completed"}).items()
    figures = [content for name, content in run.files.items() if name.startswith(f"media/images/{FIGURE}")]
    assert figures == [(folder / "perplexity.png").read_bytes()]


@pytest.mark.slow
def test_a_resumed_run_is_one_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline twice, then online. The folder, which may be somebody else's, chooses no project, mode or server."""
    again, kept = ("resume=run", "trainer=cpu"), tmp_path / "run/wandb.json"
    with WandbServer() as server, WandbServer() as other:
        assert_succeeded(call_program("train.py", *RUN, "trainer.max_epochs=1", "logger.wandb.group=ours"))
        first = json.loads(kept.read_text())
        foreign = {"entity": "thief", "project": "strangers", "base_url": other.url}
        kept.write_text(json.dumps(first | foreign | {"mode": "online"}))
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("WANDB_MODE", "offline")
        done = call_program("train.py", *again, "trainer.max_epochs=2")
        assert_succeeded(done)
        assert not server.runs
        monkeypatch.delenv("WANDB_MODE")
        sync(done.stdout, tmp_path, server)
        kept.write_text(json.dumps(first | foreign | {"mode": "offline"}))
        assert_succeeded(call_program("train.py", *again, "trainer.max_epochs=3"))
    assert not server.unknown and not other.runs and not other.unknown
    (run,) = server.runs.values()
    assert (run.name, run.entity, run.project, run.group) == (first["id"], ENTITY, PROJECT, "ours")
    assert_arrived(run, tmp_path / "run", resumed=True)
    assert (run.config["trainer"]["max_epochs"], run.summary["epoch"], run.summary["status"]) == (3, 3, "completed")


@pytest.mark.slow
def test_jobs_of_a_sweep(program: Program, tmp_path: Path) -> None:
    """Two processes of a job are one run, and one command uploads all jobs."""
    sweep = tmp_path / "it's a sweep"
    jobs = (*DDP, "model.lr=1,1e30", r"hydra.sweep.dir='it\'s a sweep'")
    done = program("train.py", "-m", *SHORT, *jobs, WANDB_RUN_ID="one")
    assert done.returncode == 0, done.stderr
    with WandbServer() as server:
        sync(done.stdout, tmp_path, server)
    assert not server.unknown
    good, bad = (json.loads((sweep / job / "wandb.json").read_text())["id"] for job in "01")
    assert server.runs.keys() == {good, bad} and good != bad
    assert {run.group for run in server.runs.values()} == {sweep.name}
    assert_arrived(server.runs[good], sweep / "0")
    ends = [(server.runs[job].exit_code, server.runs[job].summary["status"]) for job in (good, bad)]
    assert ends == [(0, "completed"), (1, "diverged")]

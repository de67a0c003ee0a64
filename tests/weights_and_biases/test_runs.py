"""train.py with W&B: the records for `wandb sync` equal the run's files."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from lightning.pytorch.loggers import WandbLogger as LightningsLogger

from tests.support.programs import DDP, Program, assert_succeeded, call_program
from tests.support.runs import rows, summary
from tests.support.wandb_files import OfflineRun, offline_runs
from timemachine.run.tables import COLUMNS
from timemachine.weights_and_biases import CHANGES, EPOCH_METRICS, FIGURE, PROJECT
from timemachine.weights_and_biases.logger import WandbLogger

SHORT = ("data.corpus=sample", "data.num_train=2051", "trainer=cpu", "trainer.max_epochs=2", "model.hiddens=8")
RUN = (*SHORT, "hydra.run.dir=run")
KEY = "5ec2e7" * 6 + "0bad"  # 40 characters, as wandb requires


@pytest.fixture(autouse=True)
def _new_session() -> Iterator[None]:
    """Let wandb read its environment again, which it does once."""
    wandb.teardown()
    yield
    wandb.teardown()


def by(key: str, columns: Iterable[str], rows: Iterable[dict[str, Any]]) -> dict[int, dict[str, float]]:
    """Return the values of these columns by `key`, merging rows: W&B has the metrics of the test in a separate row."""
    found: dict[int, dict[str, float]] = {}
    for row in rows:
        if numbers := {name: row[name] for name in columns if name in row}:
            found.setdefault(int(row[key]), {}).update(numbers)
    return found


def assert_recorded(sessions: list[OfflineRun], folder: Path) -> None:
    """Check that W&B has each number of the folder once, and no others. Resumed runs keep earlier tests."""
    history = [row for session in sessions for row in session.history]
    of_an_epoch = [name for name in EPOCH_METRICS if not (len(sessions) > 1 and name.startswith("test/"))]
    written = by("epoch", of_an_epoch, rows(folder / "metrics.csv"))
    assert written and by("epoch", of_an_epoch, history) == written
    of_a_step, step = COLUMNS["steps.csv"][2:], "trainer/global_step"
    written = by("step", of_a_step, rows(folder / "steps.csv"))
    assert written and by(step, of_a_step, history) == written
    steps = [row[step] for row in history if "loss" in row]
    assert len(steps) == len(set(steps))


def test_a_run_is_recorded_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file has the key; torch's zip archives are uncompressed, so a search finds it."""
    for name, value in {"WANDB_MODE": "offline", "WANDB_API_KEY": KEY, "WANDB_RUN_ID": "by_agent"}.items():
        monkeypatch.setenv(name, value)
    done = call_program("train.py", *RUN, "logger.wandb.project=two", "logger.wandb.group=three", "tags=[four]")
    assert_succeeded(done)
    assert re.search("^W&B +offline; upload with: wandb sync run/wandb$", done.stdout, re.MULTILINE)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in files if KEY.encode() in path.read_bytes()] == [] and KEY not in done.stdout + done.stderr
    (run,), folder = offline_runs(tmp_path / "run"), tmp_path / "run"
    assert_recorded([run], folder)
    about = summary(folder)
    assert {name: run.config.get(name) for name in about["settings"]} == about["settings"]
    assert run.config[CHANGES].startswith("data.corpus=sample ")
    assert (run.about.run_id, run.about.project, run.about.run_group) == ("by_agent", "two", "three")
    assert ([*run.about.tags], run.exit_code) == (["four"], 0)
    assert run.summary.items() >= (about["metrics"] | {"status": "completed"}).items()
    (figure,) = folder.glob(f"wandb/offline-run-*/files/media/images/{FIGURE}*.png")
    assert figure.read_bytes() == (folder / "perplexity.png").read_bytes()


def test_a_resumed_run_is_one_run(tmp_path: Path) -> None:
    """The folder, which may be somebody else's, chooses no project, entity, mode or server."""
    typed = ("train.py", *RUN, "logger.wandb.group=ours")
    assert_succeeded(call_program(*typed, "trainer.max_epochs=1"))
    kept = tmp_path / "run/wandb.json"
    foreign = {"entity": "thief", "project": "strangers", "mode": "online", "base_url": "http://127.0.0.1:9"}
    kept.write_text(json.dumps(json.loads(kept.read_text()) | foreign))
    assert_succeeded(call_program(*typed, "trainer.max_epochs=3"))
    first, again = offline_runs(tmp_path / "run")
    assert first.about.run_id == again.about.run_id
    assert (again.about.entity, again.about.project, again.about.run_group) == ("", PROJECT, "ours")
    assert_recorded([first, again], tmp_path / "run")
    assert again.config["trainer"]["max_epochs"] == again.summary["epoch"] == 3


@pytest.mark.parametrize("typed", [[], pytest.param(DDP, marks=pytest.mark.torture)])
def test_jobs_of_a_sweep(typed: list[str], program: Program, tmp_path: Path) -> None:
    """Each job is a run, also one of two processes; one command uploads all of them."""
    jobs = ("-m", *SHORT, *typed, "model.lr=1,1e30", r"hydra.sweep.dir='it\'s a sweep'")
    done = program("train.py", *jobs) if typed else call_program("train.py", *jobs)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("upload with: wandb sync ") == 1
    sweep = tmp_path / "it's a sweep"
    (good,), (bad,) = (offline_runs(sweep / job) for job in "01")
    assert good.about.run_id != bad.about.run_id and {good.about.run_group, bad.about.run_group} == {sweep.name}
    assert_recorded([good], sweep / "0")
    ends = [(run.exit_code, run.summary["status"]) for run in (good, bad)]
    assert ends == [(0, "completed"), (1, "diverged")]


@pytest.mark.parametrize(
    ("variables", "arguments", "mode"),
    [({}, {}, "offline"), ({"WANDB_API_KEY": KEY}, {}, None), ({"WANDB_API_KEY": KEY}, {"offline": True}, "offline")],
)
def test_offline_without_a_key(
    variables: dict[str, str], arguments: Any, mode: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(LightningsLogger, "__init__", lambda self, **arguments: given.update(arguments))
    for name, value in (variables | {"LOCAL_RANK": "1"}).items():  # a process that starts no run in W&B
        monkeypatch.setenv(name, value)
    WandbLogger(str(tmp_path), **arguments)
    assert given.get("mode") == mode and given["project"] == PROJECT and given["id"]

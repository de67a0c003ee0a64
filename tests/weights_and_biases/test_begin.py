"""How a run in W&B begins and ends, without one. What arrives in W&B: test_runs.py."""

import builtins
import getpass
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import wandb

from timemachine.config import Wandb, WandbMode
from timemachine.weights_and_biases import GAP
from timemachine.weights_and_biases.run import WandbRun

VARIABLES = {"PROJECT": "p", "NAME": "n", "TAGS": "a,b", "ENTITY": "e", "RUN_GROUP": "g", "JOB_TYPE": "j", "NOTES": "x"}


class FakeRun:
    """What a run is told."""

    project, id, group, offline, url = "timemachine", "abc", None, False, "http://…"

    def __init__(self, asked: dict[str, Any]) -> None:
        self.dir = f"{asked['dir']}/wandb/run-abc/files"
        self.rows = asked["rows"] = list[dict[str, Any]]()

    def define_metric(self, name: str, **named: Any) -> None:
        pass

    def log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What `wandb.init` is called with, at a terminal where a prompt would be possible; nothing is started."""
    asked: dict[str, Any] = {}

    def init(**named: Any) -> FakeRun:
        asked.update(named)
        return FakeRun(asked)

    for module, name in ((builtins, "input"), (getpass, "getpass")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("asks the user"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(wandb, "init", init)
    yield asked
    wandb.teardown()  # it remembers the environment of its first call


def record(folder: Path) -> Any:
    """What WandbRun needs of a `runs.record.Record`."""
    summary = {"settings": {"seed": 1}, "git": {"revision": "abcd"}, "corpus": {"name": "time_machine"}}
    typed = ["seed=1", "exercise=clipping", "logger=wandb", "resume=x"]
    return SimpleNamespace(
        folder=folder, summary=summary, group="a sweep", exercise="clipping", quiet=False, overrides=typed,
        update=lambda **entries: summary.update(entries),
    )  # fmt: skip


def begin(folder: Path, **settings: Any) -> WandbRun | None:
    return WandbRun.begin(Wandb(**settings), record(folder))


def test_rows_count_from_one(tmp_path: Path, asked: dict[str, Any]) -> None:
    """With bits per character, and the gap where validation and training are of the same step."""
    run, image, any_of = begin(tmp_path), object(), cast(Any, None)
    assert run is not None
    run.setup(any_of, any_of, "fit")
    run.log_metrics({"loss": 3.0, "grad_norm": 1.0}, step=0)
    run.log_metrics({"val/perplexity": 16.0, "epoch": 0}, step=0)  # within the epoch
    run.log_metrics({"val/perplexity": 8.0, "epoch": 0}, step=1)
    run.log_metrics({"clip_fraction": 0.0, "lr": 1.0, "epoch": 0}, step=1)
    run.log_metrics({"train/perplexity": 4.0, "epoch": 0}, step=1)
    run.log_metrics({"lr-SGD": 0.1}, step=2)  # LearningRateMonitor, before the third step
    run.log_metrics({"image": image})
    run.setup(any_of, any_of, "test")  # Lightning gives numbers of steps and epochs there
    run.log_metrics({"test/perplexity": 2.0, "epoch": 1}, step=2)
    first, second = ({"epoch": 1, "trainer/global_step": step} for step in (1, 2))
    assert asked["rows"] == [
        {"loss": 3.0, "grad_norm": 1.0, "trainer/global_step": 1},
        {"val/perplexity": 16.0, "val/bits_per_character": 4.0} | first,
        {"val/perplexity": 8.0, "val/bits_per_character": 3.0} | second,
        {"clip_fraction": 0.0, "lr": 1.0} | second,
        {"train/perplexity": 4.0, "train/bits_per_character": 2.0, GAP: 1.0} | second,
        {"lr-SGD": 0.1, "trainer/global_step": 3},
        {"image": image},
        {"test/perplexity": 2.0, "test/bits_per_character": 1.0} | second,
    ]


@pytest.mark.parametrize(
    ("has_key", "variable", "mode", "expected"),
    [
        (False, None, "auto", "offline"),
        (True, None, "auto", "online"),
        (True, "offline", "auto", "offline"),
        (True, "offline", "online", "online"),
        (True, "disabled", "auto", None),
    ],
)
def test_where_a_run_goes(
    has_key: bool, variable: str | None, mode: str, expected: str | None,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any],
) -> None:  # fmt: skip
    monkeypatch.setattr(wandb, "login", lambda **named: has_key and not named["prompt"])
    if variable:
        monkeypatch.setenv("WANDB_MODE", variable)
    assert (begin(tmp_path, mode=WandbMode[mode]) is None) == (expected is None)
    assert asked.get("mode") == expected


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ({}, ("p", "n", ("a", "b"), "e", "g", "j", "x")),
        (
            {"project": "typed", "name": "called", "tags": ["c"], "entity": "me"},
            ("typed", "called", ("c",), "me", "g", "j", "x"),
        ),
    ],
)
def test_a_variable_of_wandbs_counts_unless_a_setting_was_typed(
    typed: dict[str, Any], expected: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    logger = begin(tmp_path, mode=WandbMode.offline, **typed)
    assert logger is not None
    run = logger.run
    try:
        assert (run.project, run.name, run.tags, run.entity, run.group, run.job_type, run.notes) == expected
    finally:
        run.finish()
        wandb.teardown()


def test_a_wandb_that_fails_never_costs_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(**named: Any) -> None:
        raise RuntimeError("no such\nserver")

    monkeypatch.setattr(wandb, "init", fails)
    assert begin(tmp_path, mode=WandbMode.online) is None
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines[:-1]] == ["online", "offline"]
    assert "metrics.csv has all numbers" in lines[-1]

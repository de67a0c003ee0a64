"""How a run in W&B begins, without one that does. What arrives there: tests/test_wandb.py."""

import builtins
import errno
import getpass
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import wandb
from timemachine.runs.loggers import open_loggers
from timemachine.runs.metrics import RunLog

from timemachine.config import Logger as LoggerSettings
from timemachine.config import Train, Wandb, WandbMode
from timemachine.runs.record import Record
from timemachine.weights_and_biases.run import WandbRun


class FakeRun:
    """What a run is told."""

    project, id, offline, url = "timemachine", "abc", False, "http://…"
    tags: tuple[str, ...] | None = None

    def __init__(self, folder: Path, asked: dict[str, Any]) -> None:
        self.dir, self.asked, self.summary = str(folder / "wandb" / "run-abc" / "files"), asked, dict[str, Any]()
        asked["summary"] = self.summary
        self.group = asked["group"]

    def define_metric(self, name: str, **named: Any) -> None:
        pass

    def finish(self, exit_code: int) -> None:
        self.asked |= {"exit_code": exit_code, "tags_at_the_end": self.tags}


@pytest.fixture
def asked_of_wandb(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What `wandb.init` is called with, at a terminal where a prompt would be possible; nothing is started."""
    asked: dict[str, Any] = {}

    def fail(*arguments: object, **named: object) -> None:
        raise AssertionError("asks the user")

    def init(**named: Any) -> FakeRun:
        asked.update(named)
        return FakeRun(named["dir"], asked)

    for module, name in ((builtins, "input"), (getpass, "getpass")):
        monkeypatch.setattr(module, name, fail)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(wandb, "init", init)
    yield asked
    wandb.teardown()  # it remembers the environment of its first call


def run(folder: Path, choice: Wandb | None, status: str = "completed", error: BaseException | None = None) -> int:
    """Open and close the loggers of a run that ends so; returns how many there were."""
    typed = ["seed=1", "exercise=clipping", "logger=wandb", "resume=x"]
    record = Record(folder, {"seed": 1, "model": {"hiddens": 64}}, False, typed, "clipping", "a sweep")
    record.update(corpus={"name": "time_machine", "sha256": "8424"}, git={"revision": "abcd"})
    settings = Train(logger=LoggerSettings(wandb=choice))
    with open_loggers(settings, record) as loggers:
        assert isinstance(loggers[0], RunLog)  # the files come first
        assert loggers[0].folder == folder
        record.update(status=status, metrics={"val/perplexity": 7.3})
        if error is not None:
            raise error
    return len(loggers)


def test_a_run_begins_with_its_settings_and_its_text(tmp_path: Path, asked_of_wandb: dict[str, Any]) -> None:
    run(tmp_path, Wandb(tags=["pilot"], init_timeout=3, finish_timeout=4))
    assert asked_of_wandb["config"] == {"seed": 1, "model.hiddens": 64, "changes": "time_machine"}
    assert asked_of_wandb["tags"] == ["pilot"]
    assert asked_of_wandb["name"] == "time_machine seed=1"
    assert asked_of_wandb["group"] == "a sweep"
    assert asked_of_wandb["job_type"] == "clipping"
    assert asked_of_wandb["project"] == "timemachine"
    assert Path(asked_of_wandb["dir"]) == tmp_path
    assert (asked_of_wandb["settings"].init_timeout, asked_of_wandb["settings"].finish_timeout) == (3, 4)
    expected = {"corpus.name": "time_machine", "corpus.sha256": "8424", "git.revision": "abcd", "val/perplexity": 7.3}
    assert asked_of_wandb["summary"].items() >= expected.items()


@pytest.mark.parametrize(
    ("status", "error", "exit_code", "tags"),
    [
        ("completed", None, 0, None),
        ("diverged", None, 1, ("diverged",)),
        ("running", ValueError("a mistake"), 1, ("failed",)),
        ("running", KeyboardInterrupt(), 1, ("interrupted",)),
    ],
)
def test_how_a_run_ended_is_marked(
    tmp_path: Path,
    asked_of_wandb: dict[str, Any],
    status: str,
    error: BaseException | None,
    exit_code: int,
    tags: tuple[str, ...] | None,
) -> None:
    if error is None:
        run(tmp_path, Wandb(), status)
    else:
        with pytest.raises(type(error)):
            run(tmp_path, Wandb(), status, error)
    assert asked_of_wandb["exit_code"] == exit_code
    assert asked_of_wandb["tags_at_the_end"] == tags
    assert asked_of_wandb["summary"]["status"] == (tags[0] if tags else "completed")


def test_without_a_key_wandb_is_offline_and_asks_nothing(tmp_path: Path, asked_of_wandb: dict[str, Any]) -> None:
    assert run(tmp_path, Wandb()) == 2
    assert asked_of_wandb["mode"] == "offline"


def test_with_a_key_wandb_is_online(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_of_wandb: dict[str, Any]
) -> None:
    monkeypatch.setattr(wandb, "login", lambda **named: not named["prompt"])  # finds one, and may not ask for it
    run(tmp_path, Wandb())
    assert asked_of_wandb["mode"] == "online"


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_mode_can_be_chosen(tmp_path: Path, asked_of_wandb: dict[str, Any], mode: str) -> None:
    run(tmp_path, Wandb(project="mine", entity="us", mode=WandbMode[mode]))
    assert [asked_of_wandb[name] for name in ("mode", "project", "entity")] == [mode, "mine", "us"]


VARIABLES = {"PROJECT": "p", "NAME": "n", "TAGS": "a,b", "ENTITY": "e", "RUN_GROUP": "g", "JOB_TYPE": "j", "NOTES": "x"}


@pytest.mark.parametrize(
    ("variables", "typed", "expected"),
    [
        ({}, {}, ("timemachine", "time_machine", (), "", "sweep", "train", None)),
        (VARIABLES, {}, ("p", "n", ("a", "b"), "e", "g", "j", "x")),
        (
            VARIABLES,
            {"project": "typed", "name": "called", "tags": ["c"], "entity": "me"},
            ("typed", "called", ("c",), "me", "g", "j", "x"),
        ),
    ],
)
def test_a_variable_of_wandbs_counts_unless_a_setting_was_typed(
    variables: dict[str, str],
    typed: dict[str, Any],
    expected: tuple[Any, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    record = Record(tmp_path, {"seed": 1}, False, group="sweep")
    record.update(corpus={"name": "time_machine"}, git={})
    logger = WandbRun.begin(Wandb(mode=WandbMode.offline, **typed), record)
    assert logger is not None
    run = logger.run
    try:
        found = (run.project, run.name, run.tags, run.entity, run.group, run.job_type, run.notes)
        assert found == expected
        assert record.summary["wandb_group"] == run.group
    finally:
        run.finish()
        wandb.teardown()


def test_the_first_error_is_told_and_wandb_ended_where_a_full_disk_raises_others(
    tmp_path: Path, asked_of_wandb: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record(tmp_path, {"seed": 1}, False)
    record.update(corpus={"name": "time_machine"}, git={})
    full = OSError(errno.ENOSPC, "No space left on device")
    with (
        pytest.raises(ValueError, match="the first"),
        open_loggers(Train(logger=LoggerSettings(wandb=Wandb())), record),
    ):
        monkeypatch.setattr(Record, "update", Mock(side_effect=full))
        try:
            raise ValueError("the first")
        finally:
            raise full  # as when Lightning tells the loggers
    assert asked_of_wandb["exit_code"] == 1
    assert asked_of_wandb["summary"]["message"] == "ValueError: the first"


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_wandbs_own_variable_is_heeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_of_wandb: dict[str, Any], mode: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    run(tmp_path, Wandb())
    assert asked_of_wandb["mode"] == mode


@pytest.mark.parametrize(
    ("choice", "variable"), [(None, "online"), (Wandb(mode=WandbMode.disabled), "online"), (Wandb(), "disabled")]
)
def test_without_wandb_the_files_are_written_all_the_same(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked_of_wandb: dict[str, Any],
    choice: Wandb | None,
    variable: str,
) -> None:
    monkeypatch.setenv("WANDB_MODE", variable)
    assert run(tmp_path, choice) == 1
    assert not asked_of_wandb


def test_other_processes_of_a_distributed_run_are_none_in_wandb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_of_wandb: dict[str, Any]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert run(tmp_path, Wandb()) == 1
    assert not asked_of_wandb


def test_a_wandb_that_fails_costs_a_line_a_try_and_never_the_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked_of_wandb: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(**named: Any) -> None:
        raise RuntimeError("no such\nserver")

    monkeypatch.setattr(wandb, "init", fails)
    assert run(tmp_path, Wandb(mode=WandbMode.online)) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        "online failed (no such server)",
        "offline failed (no such server)",
        "is left out; metrics.csv has all numbers",
    ]

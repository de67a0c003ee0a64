"""How a run in W&B begins and ends, without one. What arrives in W&B: test_runs.py."""

import builtins
import getpass
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import wandb

from timemachine.errors import SettingError
from timemachine.run.record import Role
from timemachine.weights_and_biases import GAP
from timemachine.weights_and_biases.run import WandbRun

VARIABLES = {"PROJECT": "p", "NAME": "n", "TAGS": "a,b", "ENTITY": "e", "RUN_GROUP": "g", "JOB_TYPE": "j", "NOTES": "x"}


class FakeRun:
    """What a run is told."""

    project, id, group, offline, url = "timemachine", "abc", None, False, "http://…"

    def __init__(self, asked: dict[str, Any]) -> None:
        self.dir, self.disabled = f"{asked.get('dir')}/wandb/run-abc/files", asked["mode"] == "disabled"
        self.rows = asked["rows"] = list[dict[str, Any]]()
        self.config = SimpleNamespace(update=lambda config, **_: asked.update(config=config))

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


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    wandb.teardown()  # it remembers the environment of its first call


def record(folder: Path) -> Any:
    """What WandbRun needs of a `run.record.Record`."""
    summary = {"settings": {"seed": 1}, "git": {"revision": "abcd"}, "corpus": {"name": "time_machine"}}
    typed = ["seed=1", "exercise=clipping", "logger=wandb", "++logger.wandb.mode=auto", "resume=x", "model.hiddens=3"]
    return SimpleNamespace(
        folder=folder, summary=summary, role=Role(sweep="a sweep"), exercise="clipping", overrides=typed,
        update=lambda **entries: summary.update(entries),
    )  # fmt: skip


def begin(folder: Path, **arguments: Any) -> WandbRun:
    return WandbRun(record(folder), **arguments)


def test_rows_count_from_one(tmp_path: Path, asked: dict[str, Any]) -> None:
    """With bits per character, and the gap where validation and training are of the same step."""
    run, image, any_of = begin(tmp_path, mode="offline"), object(), cast(Any, None)
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
        (False, None, "online", "offline"),
        (True, None, "auto", "online"),
        (True, "WANDB_MODE=offline", "auto", "offline"),
        (True, "WANDB_MODE=offline", "online", "online"),
        (True, "WANDB_MODE=disabled", "auto", "disabled"),
        (True, "WANDB_DISABLED=true", "auto", "disabled"),
    ],
)
def test_where_a_run_goes(
    has_key: bool, variable: str | None, mode: str, expected: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any],
) -> None:  # fmt: skip
    monkeypatch.setattr(wandb, "login", lambda **named: has_key and not named["prompt"])
    if variable:
        monkeypatch.setenv(*variable.split("="))
    begin(tmp_path, mode=mode)
    assert asked["mode"] == expected and asked["dir"] == tmp_path


def test_arguments_of_wandb_are_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any]
) -> None:
    monkeypatch.setenv("WANDB_DIR", "elsewhere")
    typed = {"version": "mine", "save_code": True, "notes": None, "offline": True, "config_exclude_keys": ["seed"]}
    begin(tmp_path, **typed)
    assert asked["config"]["changes"] == "time_machine model.hiddens=3"
    del asked["config"], asked["rows"]
    assert asked == {
        "id": "mine", "save_code": True, "config_exclude_keys": ["seed"], "mode": "offline", "resume": "allow",
        "reinit": "create_new", "project": "timemachine", "group": "a sweep", "job_type": "clipping",
        "name": "time_machine seed=1 model.hiddens=3",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ({}, ("p", "n", ("a", "b"), "e", "g", "j", "x")),
        (
            {"project": "typed", "name": "called", "tags": ["c"], "entity": "me", "group": "ours", "id": "one"},
            ("typed", "called", ("c",), "me", "ours", "j", "x"),
        ),
    ],
)
def test_wandbs_variables_count_unless_typed(
    typed: dict[str, Any], expected: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    run = begin(tmp_path, mode="offline", **typed).run
    run.finish()
    assert (run.project, run.name, run.tags, run.entity, run.group, run.job_type, run.notes) == expected
    assert run.id == typed.get("id", run.id)


@pytest.mark.parametrize(
    ("typed", "variable", "name"),
    [
        ({"mode": "offlin"}, "", "mode=offlin"),
        ({}, "WANDB_MODE=offlin", "WANDB_.*mode=offlin"),
        ({"mode": "offline", "projct": "mine"}, "", "'projct'"),
        ({"mode": "offline", "project": "a/b"}, "", "'a/b'"),
        ({"mode": "offline", "init_timeout": "soon"}, "", "init_timeout=soon"),
        ({"sample_every_n_epochs": 0}, "", "sample_every_n_epochs=0"),
        ({"settings": {"api_key": "5ec2e7"}}, "", "settings.api_key: (?!.*5ec2e7)"),
    ],
)
def test_what_wandb_rejects_is_one_line(
    typed: dict[str, Any], variable: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable:
        monkeypatch.setenv(*variable.split("="))
    for _ in range(2):  # the next job of a sweep is told, too
        with pytest.raises(SettingError, match=rf"^logger\.wandb.*{name}"):
            begin(tmp_path, **typed)
    assert not list(tmp_path.glob("wandb/*run*"))


def test_a_failure_never_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(**named: Any) -> FakeRun:
        if named["mode"] != "disabled":
            raise RuntimeError("no such\nserver")
        return FakeRun(named)

    monkeypatch.setattr(wandb, "init", fails)
    monkeypatch.setattr(wandb, "login", lambda **_: True)
    with begin(tmp_path, mode="online") as run:
        run.log_metrics({"loss": 3.0}, step=0)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines[:-1]] == ["online", "offline"]
    assert "metrics.csv" in lines[-1] and "wandb" not in run.record.summary

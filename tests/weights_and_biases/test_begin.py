"""The start of a run in W&B and its arguments, without a server. For the uploaded data, see test_runs.py."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
import wandb

from tests.support.programs import call_program
from tests.support.wandb_server import KEY
from timemachine.errors import SettingError
from timemachine.run.record import Role
from timemachine.weights_and_biases.run import WandbRun

VARIABLES = {"PROJECT": "p", "NAME": "n", "TAGS": "a,b", "ENTITY": "e", "RUN_GROUP": "g", "JOB_TYPE": "j", "NOTES": "x"}


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    wandb.teardown()  # it caches the environment of its first call


@pytest.fixture
def init(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    """Replace `wandb.init`, and simulate a terminal where it could prompt the user."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asks the user"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(wandb, "init", MagicMock())
    return cast(MagicMock, wandb.init)


def begin(folder: Path, **arguments: Any) -> WandbRun:
    summary = {"settings": {"seed": 1}, "git": {"revision": "abcd"}, "corpus": {"name": "time_machine"}}
    typed = ["seed=1", "exercise=clipping", "logger=wandb", "++logger.wandb.mode=offline", "model.hiddens=3"]
    record = SimpleNamespace(
        folder=folder, summary=summary, settings={"data": {"tokens": "letters"}}, exercise="clipping", overrides=typed,
        role=Role(sweep="a sweep", prints=False), update=summary.update,
    )  # fmt: skip
    return WandbRun(cast(Any, record), **arguments)


def test_rows_count_from_one(tmp_path: Path, init: MagicMock) -> None:
    run, image, any_of = begin(tmp_path, mode="offline"), object(), cast(Any, None)
    run.setup(any_of, any_of, "fit")
    run.log_metrics({"loss": 3.0, "grad_norm": 1.0}, step=0)
    run.log_metrics({"val/perplexity": 8.0, "epoch": 0}, step=1)
    run.log_metrics({"image": image})
    run.setup(any_of, any_of, "test")  # when testing, Lightning passes counts instead of indices
    run.log_metrics({"test/perplexity": 2.0, "epoch": 1}, step=2)
    assert [call.args[0] for call in init.return_value.log.call_args_list] == [
        {"loss": 3.0, "grad_norm": 1.0, "trainer/global_step": 1},
        {"val/perplexity": 8.0, "epoch": 1, "trainer/global_step": 2},
        {"image": image},
        {"test/perplexity": 2.0, "epoch": 1, "trainer/global_step": 2},
    ]


@pytest.mark.parametrize(
    ("variable", "typed", "mode"),
    [
        ("MODE=online", "offline", "offline"),
        (f"API_KEY={KEY}", None, None),
        ("MODE=disabled", None, None),  # wandb.init reads it
        ("NAME=x", None, "offline"),
    ],
)
def test_mode_without_a_key(
    variable: str, typed: str | None, mode: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, init: MagicMock
) -> None:
    monkeypatch.setenv(*f"WANDB_{variable}".split("="))
    begin(tmp_path, mode=typed, config_exclude_keys=["seed"])
    asked = init.call_args.kwargs
    assert (asked["mode"], asked["dir"], asked["config_exclude_keys"]) == (mode, str(tmp_path), ["seed"])


def test_wandbs_variables_unless_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(tmp_path, mode="offline").run
    run.finish()
    assert (run.project, run.name) == ("timemachine", "time_machine seed=1 model.hiddens=3")
    assert (run.group, run.job_type, run.config["changes"]) == ("a sweep", "clipping", "time_machine model.hiddens=3")
    wandb.teardown()
    for name, value in VARIABLES.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    typed: dict[str, Any] = {"project": "typed", "name": "called", "tags": ["c"], "group": "ours", "version": "one"}
    expected = [("p", "n", ("a", "b"), "e", "g", "j", "x"), ("typed", "called", ("c",), "e", "ours", "j", "x")]
    for arguments, fields in zip(({}, typed), expected, strict=True):
        run = begin(tmp_path, offline=True, **arguments).run
        run.finish()
        assert (run.project, run.name, run.tags, run.entity, run.group, run.job_type, run.notes) == fields
    assert run.id == "one"


@pytest.mark.parametrize(
    ("typed", "variable", "name"),
    [
        ({"mode": "offlin"}, "", "mode.*offlin"),
        ({}, "WANDB_MODE=offlin", "WANDB_.*mode.*offlin"),
        ({"mode": "offline", "projct": "mine"}, "", "'projct'"),
        ({"mode": "offline", "project": "a/b"}, "", "'a/b'"),
        ({"mode": "offline", "settings": {"init_timeout": "soon"}}, "", "init_timeout"),
        ({"sample_every_n_epochs": 0}, "", "sample_every_n_epochs=0"),
        ({"settings": {"api_key": "5ec2e7"}}, "", "settings.api_key: (?!.*5ec2e7)"),
    ],
)
def test_a_rejected_argument_is_one_line(
    typed: dict[str, Any], variable: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable:
        monkeypatch.setenv(*variable.split("="))
    for _ in range(2):  # the next job of a sweep fails with the same error
        with pytest.raises(SettingError, match=rf"^logger\.wandb.*{name}") as raised:
            begin(tmp_path, **typed)
        assert "\n" not in str(raised.value)
    assert not list(tmp_path.glob("wandb/*run*"))


def test_key_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    for typed in (["--cfg", "all"], ["--help"], ["--info", "all"], ["model.hiddens=x"]):
        done = call_program("train.py", *typed)
        assert (said := done.stdout + done.stderr) and KEY not in said

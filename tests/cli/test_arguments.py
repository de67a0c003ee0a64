"""Command-line arguments in Hydra's syntax, and the options that Hydra documents."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tests.support.programs import assert_succeeded, call_program
from timemachine.cli.arguments import checked_arguments, hydra_override
from timemachine.config import Evaluate, Generate, Train
from timemachine.errors import SettingError
from timemachine.exercises import BY_NUMBER
from timemachine.run.jobs import load_sweep
from timemachine.run.record import read_summary

# Arguments from a shell may have any bytes except NUL. Python decodes them to str.
ARGUMENTS = st.binary(max_size=60).map(lambda argument: os.fsdecode(argument.replace(b"\0", b"")))
SMALL = ["data=sample", "data.num_train=64", "data.num_val=64", "model.hiddens=2", "trainer.max_epochs=1", "logger=csv"]


def parsed(argument: str) -> tuple[str, Any]:
    """Return the name and the value as parsed by Hydra and OmegaConf."""
    override = OverridesParser.create().parse_override(argument)
    return override.key_or_group, OmegaConf.create({"value": override.value()}).value


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        ("model.hiddens=16,32", "model.hiddens=16,32"),
        ("++model.hiddens=64", "++model.hiddens=64"),
        ("data.corpus=sample,time_machine", "data.corpus=sample,time_machine"),
        ("data.corpus=/nowhere/text", "data.corpus=/nowhere/text"),
        ("hydra.sweep.subdir=${hydra.job.num}", "hydra.sweep.subdir=${hydra.job.num}"),
        ("resume=null", "resume=null"),
        ("++resume=run", "resume=run"),
        ("logger.mine._target_=a.B", "++logger.mine._target_=a.B"),
        ("+callbacks.mine._target_=a.B", "+callbacks.mine._target_=a.B"),
        ("~callbacks.early_stopping", "~callbacks.early_stopping"),
        ("~logger", "~logger"),
        ("~trainer.max_time", "trainer.max_time=null"),  # OmegaConf cannot delete a key of a dataclass
        ("~seed", "seed=0"),
        ("~data.search_dirs", "data.search_dirs=[../shared/corpora]"),
        ("exercise=3", "exercise=one_hot_is_embedding"),
        ("trainer=3", "trainer='3'"),
        ("logger=null", "logger='null'"),
        ("logger=inf", "logger='inf'"),
        ("logger=1e9", "logger='1e9'"),
    ],
)
def test_overrides(typed: str, taken: str) -> None:
    assert hydra_override(typed, Train) == taken
    assert hydra_override(taken, Train) == taken  # Lightning passes it to its processes


@pytest.mark.parametrize("name", ["2026_01", "1.10", "007", "1e5", "null", "a b, it's [say] (1)=c"])
@pytest.mark.parametrize(
    ("schema", "setting"), [(Train, "data.corpus"), (Train, "resume"), (Evaluate, "run"), (Generate, "run")]
)
def test_name_of_a_file(schema: type, setting: str, name: str) -> None:
    Path(name).touch()
    once = hydra_override(f"{setting}={name}", schema)
    assert parsed(once) == (setting, name)
    assert hydra_override(once, schema) == once


@settings(max_examples=20)
@given(ARGUMENTS)
@example("Time, traveller (it's me)!")
@example("null")
@example("${seed}")
@example("it\\'s\\")
@example("a=b")
@example('"In 1895", said\tZoë —\r\n')
@example("a\\\n")
def test_any_prefix(prefix: str) -> None:
    assert parsed(hydra_override(f"prefix={prefix}", Generate)) == ("prefix", prefix)


@settings(max_examples=20)
@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40))
@example(" a b, it's [say] {a: b} (1)=c")
@example("back\\slash")
@example("back\\\\slashes")
@example("a\\${seed}")
@example("a\\\\${seed}'\\")
def test_any_file_name(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    path = f"{tmp_path_factory.mktemp('file')}/{name}"
    if name not in (".", ".."):
        Path(path).touch()
    assert parsed(hydra_override(f"data.corpus={path}", Train)) == ("data.corpus", path)


@pytest.mark.parametrize(
    ("typed", "flags"),
    [
        ("-m", ["-m"]),
        ("--cfg job -p model", ["--cfg=job", "--package=model"]),
        ("--info", ["--info=all"]),
        ("-i config", ["--info=config"]),
        ("-cd mine -cn own", ["--config-name=own", "--config-dir=mine"]),
        ("-sc", ["--shell-completion"]),
    ],
)
def test_flags_anywhere(typed: str, flags: list[str]) -> None:
    arguments = ["data=sample", "seed=1"]
    for place in range(2 if typed == "--info" else 0, 3):  # a bare --info takes the next argument as its value
        line = [*arguments[:place], *typed.split(), *arguments[place:]]
        assert checked_arguments(line, Train) == [*flags, *arguments]


def test_latest_run() -> None:
    with pytest.raises(SettingError, match="run=latest"):
        hydra_override("run=latest", Generate)
    summary: dict[str, Any] = {"status": "completed", "message": None, "settings": {}, "metrics": {}, "corpus": {}}
    runs = ("2026-11-27/23-59-59-5", "2026-11-28/01-02-03-4", "2026-11-28/00-00-00-9")
    no_runs = {"2026-11-29/00-00-00-0": "{}", "2026-11-29/00-00-00-1": '{"status": "failed"}'}
    for name, text in (dict.fromkeys(runs, json.dumps(summary)) | no_runs).items():
        Path("outputs", name).mkdir(parents=True)
        Path("outputs", name, "summary.json").write_text(text)
    for name, schema in (("run", Generate), ("run", Evaluate), ("resume", Train), ("init_from", Train)):
        assert hydra_override(f"{name}=latest", schema) == f"{name}='outputs/2026-11-28/01-02-03-4'"
    Path("latest").mkdir()  # a folder named "latest"
    assert hydra_override("run=latest", Generate) == "run='latest'"


def test_exercise_by_number() -> None:
    assert len(BY_NUMBER) == 10
    assert checked_arguments(["exercise=9"], Train) == ["exercise=clipping", "hydra.mode=MULTIRUN"]
    assert "exercise=clipping" in call_program("train.py", "exercise=9", "--cfg", "hydra").stdout


# Options of Hydra


def run_settings(*typed: str) -> dict[str, Any]:
    """Train and return the settings of the run."""
    assert_succeeded(call_program("train.py", *SMALL, *typed, "hydra.run.dir=run"))
    return dict(read_summary(Path("run"))["settings"])


def test_force_and_delete() -> None:
    typed = ["++model.hiddens=3", "~trainer.max_time", "callbacks=early_stopping", "~callbacks.early_stopping"]
    found = run_settings(*typed)
    assert (found["model"]["hiddens"], found["trainer"]["max_time"], found["callbacks"]) == (3, None, {})


def test_config_dir_and_searchpath() -> None:
    Path("mine/recipe").mkdir(parents=True)
    Path("mine/recipe/small.yaml").write_text("# @package _global_\nmodel:\n  hiddens: 3\n")
    Path("mine/own.yaml").write_text("defaults: [train, _self_]\nmodel:\n  sigma: 0.02\n")
    found = run_settings("--config-dir", "mine", "--config-name=own", "recipe=small", "~model.hiddens")
    assert (found["model"]["hiddens"], found["model"]["sigma"]) == (32, 0.02)
    sweep = ["-m", *SMALL[:3], *SMALL[4:], "hydra.searchpath=[mine]", "recipe=none,small", "hydra.sweep.dir=sweep"]
    assert_succeeded(call_program("train.py", *sweep, "hydra.job.chdir=true"))
    assert [row["model.hiddens"] for row in load_sweep("sweep")] == [32, 3]


def test_job_folders_of_ones_own() -> None:
    sweep = ["-m", *SMALL, "hydra.sweep.dir=sweep", "hydra.sweep.subdir=rates/${model.lr}", "model.lr=1,2"]
    done = call_program("train.py", *sweep, "hydra.job.chdir=true")
    assert_succeeded(done)
    assert "  2 of 2\n" in done.stdout
    assert [(row["job"], row["model.lr"]) for row in load_sweep("sweep")] == [("rates/1.0", 1.0), ("rates/2.0", 2.0)]
    again = call_program("train.py", *sweep, "resume=sweep")
    assert_succeeded(again)
    assert "\ndone          2 of 2 jobs\n" in again.stdout

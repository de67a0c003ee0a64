import os
import re
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from timemachine.cli.arguments import checked_argument, checked_arguments
from timemachine.config import Evaluate, Generate, Train
from timemachine.errors import SettingError

# What a shell can pass: any bytes without NUL, which Python shows as text.
ARGUMENTS = st.binary(max_size=60).map(lambda argument: os.fsdecode(argument.replace(b"\0", b"")))


def parsed(argument: str) -> tuple[str, Any]:
    """Name and value as Hydra reads them and OmegaConf gives them out."""
    override = OverridesParser.create().parse_override(argument)
    return override.key_or_group, OmegaConf.create({"value": override.value()}).value


@pytest.mark.parametrize(
    "argument",
    [
        "model.hiddens=16,32", "data.num_train=null", "data.search_dirs=[a,b]", "++logger.wandb.mode=offline",
        "trainer=cpu,ddp_cpu", "data.corpus=sample,time_machine", "data.corpus=/nowhere/text",
        "hydra.run.dir=here", "seed=1_0", "+hydra.job.env_set.A=1", "hydra/launcher=basic",
    ],
)  # fmt: skip
def test_a_valid_argument_is_left_as_it_is(argument: str) -> None:
    assert checked_argument(argument, Train) == argument


@pytest.mark.parametrize("text", ["2026_01", "1.10", "007", "1e5", "-1_0", "12"])
@pytest.mark.parametrize(
    ("schema", "name"),
    [
        (Train, "data.corpus"), (Train, "resume"), (Train, "init_from"), (Train, "hydra.run.dir"),
        (Train, "hydra.sweep.dir"), (Evaluate, "run"), (Generate, "run"),
    ],
)  # fmt: skip
def test_a_name_of_digits_stays_as_it_is_typed(schema: type, name: str, text: str) -> None:
    once = checked_argument(f"{name}={text}", schema)
    assert parsed(once) == (name, text)
    assert checked_argument(once, schema) == once  # which Lightning's processes are started with


@pytest.mark.parametrize(
    ("schema", "argument", "instead"),
    [
        (Train, "++model.hiddens=64", "model.hiddens=64"),
        (Train, "hiddens=64", "model.hiddens=64"),  # forgot the part before the dot
        (Train, "modle.hiddens=64", "model.hiddens=64"),
        (Train, "data.num-steps=8", "data.num_steps=8"),
        (Train, "nothing.like.it=1", "--help"),
        (Train, "", "--help"),
        (Train, "model", "model.cell=…"),
        (Train, "~model.hiddens", "model.hiddens=…"),
        (Train, "trainer=cpu,gpux", "trainer=gpu"),
        (Evaluate, "corpus=sample", "data.corpus=sample"),
        (Evaluate, "data=book", "data.corpus=book"),  # the groups are train.py's
        (Evaluate, "model.hiddens=64", "--help"),
        (Generate, "prefx=it has", "prefix=it has"),
    ],
)
def test_a_mistyped_argument_is_answered_with_what_to_type(schema: type, argument: str, instead: str) -> None:
    with pytest.raises(SettingError) as error:
        checked_argument(argument, schema)
    message = str(error.value)
    assert message.startswith(f"{argument}: ") and "\n" not in message
    assert re.search(rf"type (it as |for example )?{re.escape(instead)}", message)


@settings(max_examples=20)
@given(ARGUMENTS)
@example("Time, traveller (it's me)!")
@example("null")
@example("${seed}")
@example("it\\'s\\")
@example("a=b")
@example('"In 1895", said\tZoë —\r\n')
@example("a\\\n")
def test_any_prefix_reaches_hydra_unchanged(prefix: str) -> None:
    assert parsed(checked_argument(f"prefix={prefix}", Generate)) == ("prefix", prefix)


@settings(max_examples=20)
@given(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=40))
@example(" a b, it's [say] {a: b} (1)=c")
@example("back\\slash")
@example("back\\\\slashes")
@example("a\\${seed}")
@example("a\\\\${seed}'\\")
def test_any_file_name_reaches_hydra_whole(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    path = f"{tmp_path_factory.mktemp('file')}/{name}"
    if name not in (".", ".."):
        Path(path).touch()
    assert parsed(checked_argument(f"data.corpus={path}", Train)) == ("data.corpus", path)


@pytest.mark.parametrize(
    ("typed", "flag"),
    [("-m", "-m"), ("--cfg job", "--cfg=job"), ("--info", "--info=all"), ("-i config", "--info=config")],
)
def test_a_flag_may_stand_anywhere(typed: str, flag: str) -> None:
    arguments = ["data=sample", "seed=1"]
    for place in range(2 if typed == "--info" else 0, 3):  # a bare --info takes what follows it for its value
        line = [*arguments[:place], *typed.split(), *arguments[place:]]
        assert checked_arguments(line, Train) == [flag, *arguments]


@pytest.mark.parametrize(
    ("schema", "typed", "message"),
    [
        (Train, ["recipe=book_split", "data=full"], "data=full: a recipe has its own windows"),
        (Generate, ["-m"], "-m: only train.py runs sweeps"),
        (Generate, ["--config-name=train"], "--config-name train: a program reads its own configuration"),
        (Generate, ["--resolve"], "--resolve: goes with --cfg or --help"),
        (Generate, ["--num_predictions", "3"], "--num_predictions: there is no such flag; type for example num_preds"),
        (Train, ["data=sample", "-"], "-: stands where a setting does"),
        (Train, ["-m", "--", "data=sample"], "--: flags and settings may stand in any order"),
        (Train, ["--config-dir=mine"], "--config-dir mine: has another name here; type hydra.searchpath=[mine]"),
        (Train, ["--info", "all", "--cfg", "job"], "--info all --cfg job: only one of --run, "),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(schema: type, typed: list[str], message: str) -> None:
    with pytest.raises(SettingError, match=f"^{re.escape(message)}"):
        checked_arguments(typed, schema)


def test_a_recipe_may_read_another_text() -> None:
    checked_arguments(["recipe=none", "data=full"], Train)
    checked_arguments(["recipe=novel", "data=sample"], Train)

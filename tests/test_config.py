"""The checks of arguments from a command line or a notebook; test_cells.py has those for models."""

import inspect
import math
import re
from typing import Any

import pytest

from timemachine import config
from timemachine.config import Number, Valid, check
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch

TABLES = [config.MODEL, config.REGULARIZED, config.DATA, config.TRAINER, config.GENERATE, config.EVALUATE]
SETTINGS = [(name, kind) for table in TABLES for name, kind in table.items()]


@pytest.mark.parametrize(("name", "kind"), SETTINGS)
def test_bounds_of_each_setting(name: str, kind: Valid) -> None:
    valid: list[Any] = [True, False]
    invalid: list[Any] = [2.5, "no", [1]]
    if isinstance(kind, tuple):
        valid = [*kind]
    elif isinstance(kind, Number):
        valid = [kind.least, kind.most, *([None] if kind.optional else [])]
        invalid = [kind.least - 1, kind.most * 1.01, 10**100, math.nan, math.inf, True, "fast", [1]]
        invalid += [kind.least + 0.5] if kind.whole else []
    if not (isinstance(kind, Number) and kind.optional):
        invalid.append(None)
    for value in valid:
        arguments = {name: value}
        check(arguments, {name: kind})
        assert arguments == {name: value}
    for value in invalid:
        with pytest.raises(SettingError, match=rf"^group\.{name}=[^\n]*$"):
            check({name: value}, {name: kind}, "group.")


def test_a_number_that_is_a_text() -> None:
    """`seed=${oc.env:SEED}` is a text."""
    with pytest.raises(SettingError, match=r"^seed='7': .*oc\.decode"):
        check({"seed": "7"}, {"seed": config.DATA["seed"]})


def test_every_argument_is_checked() -> None:
    """A new argument needs a row in a table; `cell` is looked up in `CELLS`, the text in the file system."""
    for model, table, checked_elsewhere in (
        (RNNLMScratch, config.MODEL, {"cell"}),
        (TimeMachine, config.DATA, {"text", "corpus", "search_dirs"}),
    ):
        assert {*inspect.signature(model).parameters} - checked_elsewhere == {*table}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"num_train": None}, "data.num_train=null"),
        ({"min_count": 2}, "data.min_count=2"),
        ({"vocab_size": 512}, "data.vocab_size=512"),
        ({"learn_on": "train", "tokens": "characters"}, "data.learn_on=train"),
        ({"corpus": None}, "data.corpus=null"),
        ({"start": 10**9}, "data.start=1000000000"),
    ],
)
def test_data_reject(sample: Corpus, arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingError, match=rf"^{re.escape(named)}: [^\n]*$"):
        TimeMachine(**{"corpus": sample} | arguments)

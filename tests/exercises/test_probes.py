"""The registry of what `probes=` measures."""

import importlib
import re
import sys
from types import ModuleType

import pytest

from timemachine.errors import SettingError
from timemachine.exercises import probes

NAMES = ["stream", "history", "samples", "books", "dynamics", "weights", "reading"]  # fixed: users type them


def test_the_names_that_users_know_measure() -> None:
    assert list(probes.PROBES) == NAMES
    for module in probes.PROBES.values():
        assert callable(importlib.import_module(f"timemachine.{module}").measure)
    probes.check([*NAMES, "relu", "how_low"])  # an exercise that measures is a name, too


@pytest.mark.parametrize("name", ["dynamic", "clipping", "report", "generic", "probes", "../exercises/relu", ""])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match=rf"^probes=\[stream,{re.escape(name)}\]: .*; type for example probes=\["):
        probes.check(["stream", name])


@pytest.mark.parametrize("name", ["dynamics", "relu", "weights", "one_hot_is_embedding"])
def test_what_measures_the_rnn_is_refused_with_another_cell(name: str) -> None:
    probes.check(["stream", name])
    with pytest.raises(SettingError, match=rf"^probes=\[stream,{name}\]: .*; type another probe, or model.cell=rnn$"):
        probes.check(["stream", name], "gru")


def test_what_an_exercise_measures_stands_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("timemachine.exercises.mine")
    module.measure = lambda model, data: {"answer": 42}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)

    class Model:
        def eval(self) -> None: ...

    assert probes.measure(["mine"], Model(), None) == {"mine": {"answer": 42}}  # type: ignore[arg-type]

"""The registry of what `probes=` measures."""

import importlib
import re
import sys
from types import ModuleType

import pytest

from timemachine.config import REPOSITORY
from timemachine.errors import SettingError
from timemachine.exercises import probes

NAMES = ["stream", "history", "samples", "books", "dynamics", "weights", "reading"]  # fixed: users type them


def test_the_names_that_users_know_measure() -> None:
    assert list(probes.PROBES) == NAMES
    for module in probes.PROBES.values():
        assert callable(importlib.import_module(f"timemachine.{module}").measure)
    probes.check(NAMES)


def test_an_exercise_that_measures_is_a_name_without_being_listed() -> None:
    probes.check(["relu", "how_low"])  # as those of the fixed names do
    source = (REPOSITORY / "src/timemachine/exercises/relu.py").read_text()
    assert "def measure(" in source


@pytest.mark.parametrize("name", ["dynamic", "clipping", "report", "generic", "../exercises/relu", ""])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match=rf"there is no measurement {re.escape(name)}; type for example probes=\["):
        probes.check(["stream", name])


@pytest.mark.parametrize("name", ["dynamics", "relu", "weights", "one_hot_is_embedding"])
def test_what_measures_the_rnn_is_refused_with_another_cell(name: str) -> None:
    probes.check(["stream", name])
    says = rf"^probes=\[stream,{name}\]: {name} measures model.cell=rnn alone; type another probe, or model.cell=rnn$"
    with pytest.raises(SettingError, match=says):
        probes.check(["stream", name], "gru")


def test_what_an_exercise_measures_stands_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("timemachine.exercises.mine")
    module.measure = lambda model, data: {"answer": 42}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)

    class Model:
        def eval(self) -> None: ...

    assert probes.measure(["mine"], Model(), None) == {"mine": {"answer": 42}}  # type: ignore[arg-type]

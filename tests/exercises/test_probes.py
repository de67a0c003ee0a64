"""The registry of what `probes=` measures."""

import importlib
import re

import pytest

from timemachine.errors import SettingError
from timemachine.exercises import probes


def test_the_names_that_users_know_measure() -> None:
    for module in probes.PROBES.values():
        assert callable(importlib.import_module(f"timemachine.{module}").measure)
    probes.check([*probes.PROBES, "relu", "how_low"])  # an exercise that measures is a name, too


@pytest.mark.parametrize("name", ["dynamic", "clipping", "../exercises/relu"])
def test_another_name_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match=rf"^probes=\[stream,{re.escape(name)}\]: .*; type for example probes=\["):
        probes.check(["stream", name])


@pytest.mark.parametrize("name", ["dynamics", "relu", "weights"])
def test_what_measures_the_rnn_is_refused_with_another_cell(name: str) -> None:
    probes.check(["stream", name])
    with pytest.raises(SettingError, match=rf"^probes=\[stream,{name}\]: .*; type another probe, or model.cell=rnn$"):
        probes.check(["stream", name], "gru")

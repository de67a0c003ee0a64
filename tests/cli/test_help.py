"""--help of the three programs: the value, the description and the choices of each setting."""

import re

import pytest

from tests.support.programs import assert_succeeded, call_program
from timemachine.cli.help import GROUPS, described
from timemachine.cli.schema import choices, leaves
from timemachine.config import Evaluate, Generate, Train

PROGRAMS = [("train.py", Train), ("evaluate.py", Evaluate), ("generate.py", Generate)]


def helped(name: str) -> str:
    """Return the printed help with white space collapsed."""
    done = call_program(name, "--help", "all")
    assert_succeeded(done)
    assert max(map(len, done.stdout.splitlines())) <= 120
    return " ".join(done.stdout.split())


@pytest.mark.parametrize(("name", "schema"), PROGRAMS)
def test_every_setting_is_explained(name: str, schema: type) -> None:
    text = helped(name)
    for setting, field in leaves(schema):
        if field.metadata.get("meaning"):
            assert re.search(rf" {re.escape(setting)}=.+? {re.escape(described(field))} ", text), setting


def test_every_choice_is_listed() -> None:
    text = helped("train.py")
    assert re.search(r" model\.hiddens=32 .* \(1 to 8,192\) ", text)
    assert "2,147,483,647" not in text
    for group in GROUPS:
        assert re.search(rf" {group}=\w+ [^:]+: {', '.join(choices(group))} ", text)


def test_help_fits_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = call_program("train.py", "--help").stdout.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert sum("=" in line for line in lines if line.startswith(("model.", "data.", "trainer."))) == 10

"""Texts of a run's folder on a terminal."""

import sys

import pytest

from timemachine.run.console import error_line, print_continuations

COMMANDS = "\x1b[2J\x1b]0;title\x07\x9b2J\r"  # clear the screen, set the title


def test_a_terminal_gets_no_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_continuations([f"it has{COMMANDS}a\nb"], "it has", is_one_line=False)
    printed = capsys.readouterr().out.replace("\x1b[1m", "").replace("\x1b[22m", "")
    assert printed.endswith('a\nb"\n') and printed.replace("\n", "").isprintable()
    assert error_line(f"a\n{COMMANDS}b").isprintable()

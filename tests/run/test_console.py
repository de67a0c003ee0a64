"""Texts of a run's folder on a terminal."""

import re
import sys

import pytest

from timemachine.run.console import error_line, print_continuations, print_table

COMMANDS = "\x1b[2J\x1b]0;title\x07\x9b2J\r"  # clear the screen, set the title


def test_a_terminal_gets_no_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_continuations([f"it has{COMMANDS}a\nb"], "it has", is_one_line=False)
    printed = capsys.readouterr().out.replace("\x1b[1m", "").replace("\x1b[22m", "")
    assert printed.endswith('a\nb"\n') and printed.replace("\n", "").isprintable()
    assert error_line(f"a\n{COMMANDS}b").isprintable()


def test_words_of_a_table_are_not_broken(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    columns = ("text", "part", "characters", "window", "stream", "bits/character", "bits/byte")
    row = ["pride_and_prejudice", "validation", "5,000", "12.345 ± 0.123", "12.345 ± 0.123", "3.123", "3.123"]
    print_table("perplexity", columns, [row])
    printed = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    assert {word for cell in (*columns, *row) for word in cell.split()} <= set(printed.split())

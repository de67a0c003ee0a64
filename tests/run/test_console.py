"""Texts of a run's folder on a terminal; texts on a command line."""

import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from timemachine.run.console import error_line, print_continuations, print_table, quoted

COMMANDS = "\x1b[2J\x1b]0;title\x07\x9b2J\r"  # clear the screen, set the title


def test_a_terminal_gets_no_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_continuations([f"it has{COMMANDS}a\nb"], is_one_line=False)
    printed = capsys.readouterr().out
    assert printed.endswith('a\nb"\n') and printed.replace("\n", "").isprintable()
    assert error_line(f"a\n{COMMANDS}b").isprintable()


def test_numbers_of_a_table_are_aligned_right(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("perplexity", ("text", "stream"), [["a", "7.5 ± 0.1"], [f"b{COMMANDS}", "12.5 ± 0.1"]])
    title, _, *lines = capsys.readouterr().out.splitlines()
    assert title == "perplexity" and all(map(str.isprintable, lines))
    assert lines[2].endswith("  7.5 ± 0.1") and lines[3].endswith(" 12.5 ± 0.1")


@given(st.text(st.one_of(st.sampled_from("\\'\"${}[]():=,~+ \n"), st.characters())).filter(lambda text: text != "???"))
@example("")
@example("null")
@example(r"it\'s \\${oc.env:HOME} \${a} ${")
def test_hydra_reads_a_quoted_text_as_it_is(text: str) -> None:
    value = OverridesParser.create().parse_override(f"prefix={quoted(text)}").value()
    assert OmegaConf.create({"prefix": value}).prefix == text

"""Tables on the terminal."""

import re
import sys

import pytest

from timemachine.runs.tables import print_table


@pytest.mark.parametrize(("width", "is_terminal"), [(62, True), (80, True), (20, False)])
def test_a_table_fits_the_terminal_and_no_number_is_broken(
    width: int, is_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a pipe, each row is one line."""
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_terminal)
    columns = ("job", "training.input_dropout", "val/perplexity", "text")
    row = ("1", "0.2905", "1,234.5 ±10.25", ":smile: [bold]war of the worlds")
    print_table("jobs", columns, [row])
    printed = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out)
    assert set(" ".join([*columns, *row]).split()) <= set(printed.split())
    if is_terminal:
        assert max(len(line.rstrip()) for line in printed.splitlines()) <= width
    else:
        assert any(set(" ".join(row).split()) <= set(line.split()) for line in printed.splitlines())

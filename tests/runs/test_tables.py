"""Numbers and tables as text."""

import math
import re
import sys

import pytest

from timemachine.runs.tables import mean_sd, print_table, print_text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], "–"),
        ([math.nan], "–"),
        ([7.25], "7.250"),
        ([7, 8], "7.50 ± 0.71"),
        ([7, math.inf], "inf"),
        ([1e9, 3e9], "2.0e+09 ± 1.4e+09"),
    ],
)
def test_seeds_are_one_cell(values: list[float], text: str) -> None:
    assert mean_sd(values) == text


COLUMNS = ("job", "training.input_dropout", "val/perplexity", "text")
ROWS = [
    ("0", "0.001022", "7.49 ±0.12", "b=[c].txt"),
    ("1", "0.2905", "1,234.5 ±10.25", ":smile: [bold]war of the worlds"),
]


@pytest.mark.parametrize("width", [50, 80, 200])
def test_a_table_fits_the_terminal_and_no_number_is_broken(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table("perplexity of [each] job, in the order in which they began", COLUMNS, ROWS)
    print_text("a sentence that goes on for more than fifty columns, war-torn words and all")
    printed = re.sub("\x1b\\[[0-9;]*m", "", capsys.readouterr().out)
    assert max(len(line.rstrip()) for line in printed.splitlines()) <= width
    words = set(" ".join([*COLUMNS, *ROWS[0], *ROWS[1], "[each] war-torn"]).split())
    assert words <= set(printed.split())
    assert bool(re.search("0.2905 +1,234.5", printed)) == (width > 50)  # there a row is a block


def test_a_table_in_a_pipe_is_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    print_table("jobs", COLUMNS, ROWS)
    assert any(
        set(ROWS[1][3].split()) | {"1,234.5", "0.2905"} <= set(line.split())
        for line in capsys.readouterr().out.splitlines()
    )

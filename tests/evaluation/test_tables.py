"""What evaluate.py prints of a model."""

import math

import pytest

from timemachine.evaluation.scores import Row, Score
from timemachine.evaluation.tables import COLUMNS, print_evaluation, table_row


def test_a_row_a_part_and_the_characters_that_were_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    window, stream = Score(8.125, 0.25, 3.0223, 1234), Score(7.5, 0.125, 2.9069, 1203)
    one_block = Score(7.5, math.nan, 2.9069, 90)
    replaced = {"digits": 1, "accents": 2, "other": 3000, "left_out": 0}
    nothing = dict.fromkeys(replaced, 0) | {"left_out": 2000}
    rows = [Row("a", "a", part, window, stream, replaced) for part in ("train", "val")]
    print_evaluation([*rows, Row("b", "b", "all", one_block, one_block, nothing)], ["outputs/x"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "a train 1,203 8.12 ±0.25 7.50 ±0.12 2.907 val 1,203 8.12 ±0.25" in printed
    assert "b all 90 7.50 7.50 2.907" in printed
    assert printed.count("a: normalisation made spaces of 1 digits, 2 accented letters, 3,000 other characters") == 1
    assert "b: normalisation made spaces of 0 digits, 0 accented letters, 0 other characters; 2,000 around" in printed
    row = dict(zip(COLUMNS, table_row("a", "val", "model", stream, window), strict=True))
    assert (row["window"], row["stream, error"], row["bits"]) == (8.125, 0.125, 2.9069)

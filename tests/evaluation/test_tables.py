"""What evaluate.py prints."""

import math

import pytest

from timemachine.evaluation.scores import Comparison, Row, Score
from timemachine.evaluation.tables import as_lines, print_comparison, print_evaluation

REPLACED = ("digits", "accents", "other", "left_out")


def test_evaluation_prints_a_row_a_part_and_what_was_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    window, stream = Score(8.125, 0.25, 3.0223, 1234), Score(7.5, 0.125, 2.9069, 1203)
    replaced = dict(zip(REPLACED, (1, 2, 3000, 0), strict=True))
    rows = [Row("a", "a", part, window, stream, replaced) for part in ("train", "val")] + [
        Row("b", "b", "all", window, stream, {"digits": 0, "accents": 0, "other": 0, "left_out": 2000})
    ]
    print_evaluation(rows, ["outputs/x"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "a train 1,203 8.12 ±0.25 7.50 ±0.12 2.907 val 1,203 8.12 ±0.25" in printed
    assert "b all 1,203" in printed
    assert "a: normalisation made spaces of 1 digits, 2 accented letters, 3,000 other characters" in printed
    assert "b: normalisation made spaces of 0 digits, 0 accented letters, 0 other characters; 2,000 around" in printed
    assert printed.count("a: normalisation") == 1


def test_a_text_of_one_block_has_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    one_block = Score(7.5, math.nan, 2.9069, 90)
    print_evaluation([Row("a", "a", "all", one_block, one_block, dict.fromkeys(REPLACED, 0))], ["outputs/x"])
    printed = " ".join(capsys.readouterr().out.split())
    assert "a all 90 7.50 7.50 2.907" in printed


@pytest.mark.parametrize("ppmd", [7.25, None])
def test_a_comparison_has_what_learns_on_beside_what_stays_fixed(
    capsys: pytest.CaptureFixture[str], ppmd: float | None
) -> None:
    model, mixture, adapting = (Score(perplexity, 0.125, 3.0, 1203) for perplexity in (7.5, 7.0, 6.5))
    ngrams = {"Witten-Bell": [27.0, 17.0], "Kneser-Ney": [27.0, 16.0]}
    differences = {"1-gram, Kneser-Ney": (-0.75, 0.01), "the mixture": (0.069, 0.02)}
    found = Comparison("a", "val", model, ngrams, "1-gram, Kneser-Ney", mixture, adapting, ppmd, differences)
    print_comparison(found)
    printed = " ".join(capsys.readouterr().out.split())
    assert "the model 7.50 ±0.12 mixture of n-grams 7.00 ±0.12 6.50 ±0.12 " in printed
    assert ("PPMd, order 6 7.25 " in printed) == (ppmd is not None)
    assert ("PPMd is left out" in printed) == (ppmd is None)
    assert "-0.750 ±0.010 1-gram, Kneser-Ney +0.069 ±0.020 the mixture" in printed
    lines = {line[2]: line[6] for line in as_lines([], [found], {})}
    assert lines.pop("PPMd, order 6, adapting", None) == ppmd
    assert lines == {"1-gram, Kneser-Ney": 16, "mixture of n-grams": 7, "mixture of n-grams, adapting": 6.5}

"""The report of exercise 9."""

from pathlib import Path

from timemachine.exercises import clipping
from timemachine.exercises.jobs import load_jobs


def test_the_report_has_a_row_for_each_rate_and_radius_and_their_numbers_in_its_answer(clipping_sweep: Path) -> None:
    found = clipping.findings(load_jobs(clipping_sweep))
    cells = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    assert [cell["learning rate η"] for cell in cells] == ["1", "1", "8", "8"]
    assert [cell["radius θ"] for cell in cells] == ["none", "1", "none", "1"]
    assert [cell["diverged"] for cell in cells] == ["0 of 2", "0 of 2", "2 of 2", "1 of 2"]
    assert [cell["at epoch"] for cell in cells] == ["", "", "2", "2"]
    assert [cell["train"] for cell in cells] == ["7.50 ± 0.71", "7.50 ± 0.71", "–", "9.000"]
    assert [cell["steps clipped"] for cell in cells] == ["0%", "0%", "0%", "50%"]
    text = " ".join([found.answer, *found.longer])
    for number in ("largest 0.50", "2 of 2 runs are the same", "2 of 2 at rate 8", "radius 1 diverge 1 of 2 at rate 8"):
        assert number in text


def test_runs_that_differ_in_a_digit_are_not_called_the_same(clipping_sweep: Path) -> None:
    metrics = clipping_sweep / "0/metrics.csv"
    metrics.write_text(metrics.read_text().replace("7.0", "7.0000001"))
    answer = clipping.findings(load_jobs(clipping_sweep)).answer
    assert "1 of 2 runs are the same bit for bit" in answer
    assert "nothing happens" not in answer

"""The report of exercise 3."""

from pathlib import Path

from tests.support.jobs import leave_job
from timemachine.exercises import one_hot_is_embedding
from timemachine.exercises.jobs import load_jobs


def test_one_hot_and_look_up_are_compared_number_by_number(tmp_path: Path) -> None:
    for backward, gap in (("autograd", 0.0), ("bptt", 0.25)):
        settings = {"seed": 0, "model": {"backward": backward}, "trainer": {"precision": "64-true"}}
        weights = {"weights": {"W_xh": [1.0, 2.0 + gap / 2], "b_h": [0.0]}, "logits": [5.0, 6.0 - gap * 2]}
        steps = [{"step": n + 1, "loss": 3.0 - n + gap * n} for n in range(3)]
        leave_job(tmp_path / "s", settings, probes={"weights": weights}, tables={"steps": steps})
    (row,) = one_hot_is_embedding.findings(load_jobs(tmp_path / "s")).rows
    assert row == ["64-true", "0", "3", "5.0e-01", "1.2e-01", "5.0e-01"]

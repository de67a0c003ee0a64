"""Exercise 3: two ways compared number by number."""

from pathlib import Path

from tests.support.jobs import leave_job
from timemachine.exercises import one_hot_is_embedding
from timemachine.run.jobs import load_jobs


def leave_pair(sweep: Path, precision: str, seed: int, gap: float) -> None:
    """Leave two runs: the losses of step n differ by n gaps, a weight by half of one, a logit by two."""
    for backward, off in (("autograd", 0.0), ("bptt", gap)):
        settings = {"seed": seed, "model": {"backward": backward}, "trainer": {"precision": precision}}
        weights = {"weights": {"W_xh": [1.0, 2.0 + off / 2], "b_h": [0.0]}, "logits": [5.0, 6.0 - off * 2]}
        steps = [{"step": n + 1, "loss": 3.0 - n + off * n} for n in range(4)]
        leave_job(sweep, settings, probes={"weights": weights}, tables={"steps": steps})


def test_largest_differences(tmp_path: Path) -> None:
    leave_pair(tmp_path / "s", "64-true", 0, 2**-50)
    leave_pair(tmp_path / "s", "64-true", 1, 2**-49)
    leave_pair(tmp_path / "s", "32-true", 0, 2**-20)
    leave_job(tmp_path / "s", {"seed": 2, "model": {"backward": "bptt"}, "trainer": {"precision": "64-true"}})
    found = one_hot_is_embedding.findings(load_jobs(tmp_path / "s"))
    assert found.rows == [
        ["float64", "0", "2.7e-15", "4.4e-16", "1.8e-15"],
        ["float64", "1", "5.3e-15", "8.9e-16", "3.6e-15"],
        ["float32", "0", "2.9e-06", "4.8e-07", "1.9e-06"],
    ]
    assert "5e-15 (24 ε) in float64 and 3e-06 (24 ε) in float32" in found.answer
    assert found.setting.startswith("The book's run for 4 steps, twice")
    assert found.arrays["float64/1"].tolist() == [3 * 2**-49, 2**-50, 2**-48]

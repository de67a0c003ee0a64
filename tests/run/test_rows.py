"""The final numbers of a run, damaged tables, and the perplexity of character frequencies."""

from pathlib import Path

import pytest

from timemachine.run.rows import final_numbers

METRICS = """\
epoch,step,train/perplexity,val/perplexity,val/bits_per_byte,test/perplexity,test/bits_per_byte,grad_norm,\
grad_norm_clipped,clip_fraction,chars_per_second
1,2,9.5,8.25,3.0,,,0.75,0.5,0.5,1000
2,4,7.5,7.25,2.75,,,2.0,0.75,1.0,2000
3,5,6.5,7.75,2.875,8.5,3.125,0.25,0.25,0.0,3000
"""
STEPS = """\
epoch,step,loss,grad_norm,grad_norm_clipped
1,1,2.5,0.5,0.5
1,2,2.25,1.25,1.0
2,3,2.0,1.0,1.0
2,4,1.75,3.0,1.0
3,5,1.5,0.25,0.25
"""
FINAL = {
    "epoch": 3, "step": 5, "train/perplexity": 6.5, "val/perplexity": 7.75, "val/bits_per_byte": 2.875,
    "test/perplexity": 8.5, "test/bits_per_byte": 3.125, "grad_norm": 0.25,
    "grad_norm_clipped": 0.25, "clip_fraction": 0.0, "chars_per_second": 3000.0, "best_val/perplexity": 7.25,
    "best_val/bits_per_byte": 2.75,
    "best_epoch": 2, "clipped_steps": 2, "num_steps_done": 5, "largest_grad_norm": 3.0,
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "metrics.csv").write_text(METRICS)
    (tmp_path / "steps.csv").write_text(STEPS)
    return tmp_path


def test_final_numbers_and_best_epoch(folder: Path) -> None:
    assert final_numbers(folder) == FINAL

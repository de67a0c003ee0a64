"""The book's experiment on a GPU, if available: `python -m pytest -m gpu tests`."""

from pathlib import Path

import pytest
import torch

from tests.support.programs import Program, assert_succeeded
from tests.support.runs import summary

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]


@pytest.mark.parametrize(("precision", "tolerance"), [("32", 1e-2), ("bf16-mixed", 0.1)])
def test_gpu_against_cpu(precision: str, tolerance: float, program: Program, tmp_path: Path) -> None:
    """The tolerance is relative: a thousand steps amplify the rounding of sums in a different order."""
    found = {}
    for trainer, chosen in (("cpu", "32"), ("gpu", precision)):
        typed = ("data=sample", "logger=csv", f"trainer.precision={chosen}", f"hydra.run.dir={trainer}")
        assert_succeeded(program("train.py", *typed, f"trainer={trainer}"))
        found[trainer] = summary(tmp_path / trainer)["metrics"]["val/perplexity"]
    assert found["gpu"] == pytest.approx(found["cpu"], rel=tolerance)

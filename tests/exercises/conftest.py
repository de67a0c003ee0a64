"""A sweep that the tests of several files read."""

import math
from pathlib import Path

import pytest

from tests.support.jobs import leave_job


def clipping_job(
    sweep: Path, lr: float, theta: float | None, seed: int, train: list[float], norms: list[float]
) -> None:
    """A folder as train.py leaves it: an epoch's perplexities and a step's norms."""
    clipped = [min(norm, theta or math.inf) for norm in norms]
    metrics = {"train/perplexity": train[-1], "val/perplexity": train[-1] + 1, "largest_grad_norm": max(norms)}
    metrics |= {"clipped_steps": sum(norm > (theta or math.inf) for norm in norms), "num_steps_done": len(norms)}
    epochs = [
        {"epoch": number, "train/perplexity": value, "val/perplexity": value + 1, "chars_per_second": seed + lr}
        for number, value in enumerate(train, 1)
    ]
    steps = [
        {"epoch": 1, "step": number + 1, "loss": 3.0 - number / 10, "grad_norm": norm, "grad_norm_clipped": after}
        for number, (norm, after) in enumerate(zip(norms, clipped, strict=True))
    ]
    settings = {"seed": seed, "model": {"lr": lr}, "trainer": {"gradient_clip_val": theta}}
    status = "diverged" if train[-1] > 28 else "completed"
    leave_job(sweep, settings, status=status, metrics=metrics, tables={"metrics": epochs, "steps": steps})


@pytest.fixture
def clipping_sweep(tmp_path: Path) -> Path:
    sweep = tmp_path / "clipping"
    for seed in (0, 1):
        for theta in (None, 1.0):
            clipping_job(sweep, 1.0, theta, seed, [20.0, 7.0 + seed], [0.2, 0.5])
        clipping_job(sweep, 8.0, None, seed, [15.0, 1e9], [0.2, 4.0])
        clipping_job(sweep, 8.0, 1.0, seed, [15.0, 9.0 if seed else 30.0], [0.2, 4.0])
    return sweep

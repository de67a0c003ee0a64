"""Step sizes over time."""

import math

from torch.optim import Optimizer

from timemachine.config import Schedule, Training


def set_rates(optimizer: Optimizer, step: int, steps: float, training: Training) -> None:
    """Set the rates of step number `step` (from 0) of `steps`: a function of the two, so a resumed run has them."""
    factor = min(1.0, (step + 1) / max(training.warm_up * steps, 1))
    if training.schedule is Schedule.cosine:
        factor *= (1 + math.cos(math.pi * step / steps)) / 2
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor

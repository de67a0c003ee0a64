"""The optimiser and its step sizes over time."""

import math
from collections.abc import Iterable, Sequence

from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

from timemachine.config import Optimizer as Name
from timemachine.config import Schedule, Training


def optimizer(groups: Iterable[tuple[Sequence[Tensor], float]], name: Name) -> Optimizer:
    """SGD or AdamW for groups of parameters, each with its rate η. Weights do not decay: that did not pay.

    Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
    """
    chosen = [{"params": list(parameters), "lr": lr, "initial_lr": lr} for parameters, lr in groups]
    return AdamW(chosen, weight_decay=0) if name == Name.adamw else SGD(chosen)


def set_rates(optimizer: Optimizer, step: int, steps: float, how: Training) -> None:
    """The rates of step number `step` (from 0) of `steps`: a function of the two, so one that goes on has them."""
    factor = min(1.0, (step + 1) / max(how.warm_up * steps, 1))
    if how.schedule == Schedule.cosine:
        factor *= (1 + math.cos(math.pi * step / steps)) / 2
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor

"""The optimiser and its step sizes over time."""

import math
from collections.abc import Iterable, Sequence

from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer

from timemachine.config import Optimizer as Name
from timemachine.config import Schedule, Training


def optimizer(groups: Iterable[tuple[Sequence[Tensor], float]], how: Training) -> Optimizer:
    """SGD or AdamW for groups of parameters, each with its rate η; AdamW's biases do not decay.

    Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
    """
    is_adamw = how.optimizer == Name.adamw
    chosen = []
    for parameters, lr in groups:
        weights = [p for p in parameters if p.ndim > 1 or not is_adamw]
        biases = [p for p in parameters if p.ndim == 1 and is_adamw]
        for found, decay in ((weights, how.weight_decay), (biases, 0.0)):
            if found:
                chosen.append({"params": found, "lr": lr, "initial_lr": lr, "weight_decay": decay})
    return AdamW(chosen) if is_adamw else SGD(chosen, momentum=how.momentum)


def set_rates(optimizer: Optimizer, step: int, steps: int, how: Training) -> None:
    """The rates of step number `step` (from 0) of `steps`: a function of the two, so one that goes on has them."""
    factor = min(1.0, (step + 1) / max(how.warm_up * steps, 1))
    if how.schedule == Schedule.cosine:
        factor *= (1 + math.cos(math.pi * step / steps)) / 2
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from timemachine.config import Optimizer as Name
from timemachine.config import Schedule, Training
from timemachine.optimization import optimizer, set_rates


def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def test_the_books_is_plain_sgd() -> None:
    ours, theirs = layer(), layer()
    for module, found in (
        (ours, optimizer([(list(ours.parameters()), 0.5)], Name.sgd)),
        (theirs, torch.optim.SGD(theirs.parameters(), lr=0.5)),
    ):
        for step in range(3):
            module.zero_grad()
            module(torch.ones(1, 3)).square().sum().backward()
            if module is ours:
                set_rates(found, step, 3, Training())
            found.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_adamw_is_torchs_without_decay_and_with_a_rate_a_group() -> None:
    module = layer()
    found = optimizer([([module.weight], 0.03), ([module.bias], 0.01)], Name.adamw)
    assert type(found) is torch.optim.AdamW
    assert [(group["lr"], group["weight_decay"]) for group in found.param_groups] == [(0.03, 0), (0.01, 0)]


@given(steps=st.integers(1, 10_000), warm_up=st.floats(0, 0.99))
def test_rates_rise_in_the_warm_up_and_fall_to_nothing_along_half_a_cosine(steps: int, warm_up: float) -> None:
    module = layer()
    how = Training(schedule=Schedule.cosine, warm_up=warm_up)
    found = optimizer([([module.weight], 2.0), ([module.bias], 1.0)], Name.sgd)

    def rate(step: int) -> float:
        set_rates(found, step, steps, how)
        twice, once = (group["lr"] for group in found.param_groups)
        assert twice == 2 * once
        return float(once)

    first = rate(0)
    assert first == pytest.approx(1 / max(warm_up * steps, 1))
    middle = steps // 2
    expected = min(1, (middle + 1) / max(warm_up * steps, 1)) * math.cos(math.pi * middle / steps / 2) ** 2
    assert rate(middle) == pytest.approx(expected, abs=1e-12)
    assert rate(steps - 1) <= math.sin(math.pi / steps / 2) ** 2 + 1e-12

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timemachine.runs.metrics import RunLog
from torch import nn
from torch.optim import SGD, AdamW

from timemachine.beyond.language_model import RNNLMBeyond
from timemachine.beyond.schedule import set_rates
from timemachine.config import Optimizer, Schedule, Train, Training
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.runs.rows import read_numbers
from timemachine.training.trainer import build_trainer


def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def test_the_books_is_plain_sgd_whatever_the_schedule() -> None:
    ours = RNNLMBeyond(5, Training(schedule=Schedule.cosine), hiddens=4, lr=0.5)
    found = ours.configure_optimizers()
    assert type(found) is SGD
    (group,) = found.param_groups
    plain = SGD(ours.parameters(), lr=0.5).param_groups[0]
    assert {name: group[name] for name in plain if name != "params"} == {n: plain[n] for n in plain if n != "params"}
    assert group["initial_lr"] == 0.5


def test_a_constant_rate_stays() -> None:
    found = RNNLMBeyond(5, Training(), hiddens=4, lr=0.5).configure_optimizers()
    for step in range(3):
        set_rates(found, step, 3, Training())
        assert found.param_groups[0]["lr"] == 0.5


def test_adamw_is_torchs_without_decay_and_with_a_rate_a_group() -> None:
    found = RNNLMBeyond(5, Training(optimizer=Optimizer.adamw), hiddens=4, lr=0.01, input_lr_factor=3)
    groups = found.configure_optimizers()
    assert type(groups) is AdamW
    assert [(group["lr"], group["weight_decay"]) for group in groups.param_groups] == [
        (pytest.approx(0.03), 0),
        (0.01, 0),
    ]
    assert groups.param_groups[0]["params"] == [found.rnn.W_xh]


@given(steps=st.integers(1, 10_000), warm_up=st.floats(0, 0.99))
def test_rates_rise_in_the_warm_up_and_fall_to_nothing_along_half_a_cosine(steps: int, warm_up: float) -> None:
    module = layer()
    training = Training(schedule=Schedule.cosine, warm_up=warm_up)
    groups = [{"params": [module.weight], "initial_lr": 2.0}, {"params": [module.bias], "initial_lr": 1.0}]
    found = SGD(groups)

    def rate(step: int) -> float:
        set_rates(found, step, steps, training)
        twice, once = (group["lr"] for group in found.param_groups)
        assert twice == 2 * once
        return float(once)

    first = rate(0)
    assert first == pytest.approx(1 / max(warm_up * steps, 1))
    middle = steps // 2
    expected = min(1, (middle + 1) / max(warm_up * steps, 1)) * math.cos(math.pi * middle / steps / 2) ** 2
    assert rate(middle) == pytest.approx(expected, abs=1e-12)
    assert rate(steps - 1) <= math.sin(math.pi / steps / 2) ** 2 + 1e-12


def test_the_rate_of_each_epochs_last_step_is_in_metrics_csv(sample: Corpus, tmp_path: Path) -> None:
    """Of the weights that do not read the input, whose rate has a factor."""
    training = Training(schedule=Schedule.cosine)
    data = TimeMachine(batch_size=64, num_steps=8, num_train=128, num_val=64, corpus=sample)
    model = RNNLMBeyond(len(data.vocab), training, hiddens=4, lr=0.5, input_lr_factor=3)
    settings = Train(training=training)
    for name, value in {"accelerator": "cpu", "max_epochs": 3, "enable_checkpointing": False}.items():
        setattr(settings.trainer, name, value)
    build_trainer(settings, tmp_path, [RunLog(tmp_path)], quiet=True).fit(model, data)
    rates = [row["lr"] for row in read_numbers(tmp_path / "metrics.csv")]
    assert rates == pytest.approx([0.25 * (1 + math.cos(math.pi * step / 6)) for step in (1, 3, 5)])  # two an epoch

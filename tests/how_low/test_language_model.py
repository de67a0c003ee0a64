"""RNNLMBeyond: its losses, its schedule, and resuming bit for bit after a kill."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.optim import SGD

from tests.support.runs import InterruptAt, Interruption, fit
from timemachine.config import Optimizer, Schedule, Training
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.how_low.language_model import RNNLMBeyond, set_rates
from timemachine.how_low.teacher import train_loader

EVERYTHING = Training(
    optimizer=Optimizer.adamw,
    schedule=Schedule.cosine,
    warm_up=0.2,
    carry_state=True,
    input_dropout=0.3,
    output_dropout=0.3,
    teacher=0.5,
    teacher_networks=1,
)
ALL = slice(0, 8, 1)  # windows of a batch


def trained_on(corpus: Corpus, training: Training) -> tuple[RNNLMBeyond, TimeMachine]:
    torch.manual_seed(0)
    make_loader = partial(train_loader, training=training)
    data = TimeMachine(8, 4, 3 * 8 * 4, 40, corpus=corpus, seed=1, train_loader=make_loader)
    return RNNLMBeyond(len(data.vocab), training, hiddens=6, sigma=0.5, lr=0.01), data


# Losses


def test_carried_state(sample: Corpus) -> None:
    model, data = trained_on(sample, Training(carry_state=True))
    batches = list(data.train_dataloader())[:3]
    found_BT = torch.cat([model.losses(batch, ALL)[1] for batch in batches], 1)
    X_BL, Y_BL = (torch.cat(parts, 1) for parts in zip(*batches, strict=True))
    torch.testing.assert_close(found_BT, model.nll((X_BL, Y_BL)), rtol=1e-5, atol=1e-6)
    last_BT, _ = model.losses(batches[0], ALL)
    assert model._state_BS is not None and not model._state_BS.requires_grad and last_BT.requires_grad


def test_targets_of_a_teacher(sample: Corpus) -> None:
    """The targets are the teacher's distributions in its own text and the characters in the real text."""
    model, data = trained_on(sample, Training(carry_state=True, teacher=3))
    stop = data.splits["train"].targets.stop
    loader: Any = data.train_dataloader()
    assert len(loader.tokens_N) == 4 * stop
    assert torch.equal(loader.tokens_N[:stop], data.tokens_N[:stop])
    assert torch.equal(loader.target_NV[:stop].argmax(1), data.tokens_N[:stop].long())
    assert loader.target_NV[stop:].max() < 1
    X_BT, Y_BT, target_BTV = next(iter(loader))
    loss_BT, nll_BT = model.losses((X_BT, Y_BT, target_BTV), ALL)
    logits_BTV, _ = model(X_BT)
    expected_BT = F.cross_entropy(logits_BTV.flatten(0, 1), target_BTV.flatten(0, 1), reduction="none").view(Y_BT.shape)
    torch.testing.assert_close(loss_BT, expected_BT, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(nll_BT, model.nll((X_BT, Y_BT)), rtol=1e-5, atol=1e-6)


def test_output_dropout(sample: Corpus) -> None:
    """A unit is dropped for a whole window, and the masks do not depend on the number of processes."""
    model, data = trained_on(sample, Training(output_dropout=0.5))
    X_BT, Y_BT = next(iter(data.train_dataloader()))
    H_TBH, _ = model.hidden_states(X_BT)
    kept_BH = torch.rand(len(X_BT), 6, generator=torch.Generator().manual_seed(7)) >= 0.5
    logits_BTV = (H_TBH * kept_BH * 2 @ model.W_hq + model.b_q).transpose(0, 1)
    expected_BT = -logits_BTV.log_softmax(-1).gather(-1, Y_BT[..., None])[..., 0]
    for share in (ALL, *(slice(rank, len(X_BT), 3) for rank in range(3))):
        model._random.manual_seed(7)
        loss_BT, _ = model.losses((X_BT[share], Y_BT[share]), share)
        torch.testing.assert_close(loss_BT, expected_BT[share])


# Schedule


@given(steps=st.integers(1, 10_000), warm_up=st.floats(0, 0.99))
def test_warm_up_and_cosine(steps: int, warm_up: float) -> None:
    module, training = nn.Linear(3, 2), Training(schedule=Schedule.cosine, warm_up=warm_up)
    optimizer = SGD([{"params": [module.weight], "initial_lr": 2.0}, {"params": [module.bias], "initial_lr": 1.0}])

    def rate(step: int) -> float:
        set_rates(optimizer, step, steps, training)
        twice, once = (group["lr"] for group in optimizer.param_groups)
        assert twice == 2 * once
        return float(once)

    assert rate(0) == pytest.approx(1 / max(warm_up * steps, 1))
    middle = steps // 2
    expected = min(1, (middle + 1) / max(warm_up * steps, 1)) * math.cos(math.pi * middle / steps / 2) ** 2
    assert rate(middle) == pytest.approx(expected, abs=1e-12)
    assert rate(steps - 1) <= math.sin(math.pi / steps / 2) ** 2 + 1e-12
    set_rates(optimizer, middle, steps, Training())
    assert [group["lr"] for group in optimizer.param_groups] == [2.0, 1.0]


# Resuming


def train(folder: Path, *others: Callback) -> dict[str, Any]:
    """Train 4 epochs of 4 steps, resuming from a checkpoint if there is one, and return the last checkpoint."""
    model, data = trained_on(find_corpus("sample", []), EVERYTHING)
    fit(folder, model, data, others, max_epochs=4)
    return dict(torch.load(folder / "checkpoints/last.ckpt", weights_only=True))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    torch.set_num_threads(1)
    return train(tmp_path_factory.mktemp("uninterrupted"))


@pytest.mark.parametrize("step", [4, 9, 14])
def test_resuming_bit_for_bit(step: int, uninterrupted: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Interruption):
        train(tmp_path / "run", InterruptAt(step))
    found = train(tmp_path / "run")
    assert all(torch.equal(found["state_dict"][name], W) for name, W in uninterrupted["state_dict"].items())
    optimizer, expected = (state["optimizer_states"][0] for state in (found, uninterrupted))
    assert torch.equal(optimizer["state"][0]["exp_avg_sq"], expected["state"][0]["exp_avg_sq"])
    assert optimizer["param_groups"] == expected["param_groups"]  # including the learning rates

"""RegularizedRNNLM: its losses, its optimiser and schedule; test_matrix.py resumes it."""

import inspect
import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim import AdamW

from tests.support.runs import fit, rows
from timemachine.config import REGULARIZED
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.regularized.language_model import RegularizedRNNLM, rate_factor

ALL = slice(0, 8, 1)  # windows of a batch

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's own


def pair(**training: Any) -> tuple[RegularizedRNNLM, TimeMachine]:
    """Return a model, and data with 100 training targets."""
    torch.manual_seed(0)
    data = TimeMachine(batch_size=8, num_steps=4, num_train=96, num_val=40, corpus="sample", seed=1)
    return RegularizedRNNLM(len(data.vocab), hiddens=6, sigma=0.5, lr=0.01, **training), data


# Arguments


def test_every_argument_is_checked() -> None:
    assert {*inspect.signature(RegularizedRNNLM).parameters} - {"vocab_size", "network"} == {*REGULARIZED}
    with pytest.raises(SettingError, match=r"^model\.output_dropout=[^\n]*$"):
        RegularizedRNNLM(28, output_dropout=math.nan)


@pytest.mark.parametrize("training", [{"carry_state": True}, {"output_dropout": 0.1}])
def test_fused_kernel_has_no_states(training: dict[str, Any]) -> None:
    assert RegularizedRNNLM(28, **training).kernel() == "bptt"
    with pytest.raises(SettingError, match=r"^model\.backward=fused: [^\n]*$"):
        RegularizedRNNLM(28, backward="fused", **training)
    RegularizedRNNLM(28, backward="fused", input_dropout=0.1, optimizer="adamw")


class Halved(RegularizedRNNLM):
    def loss(self, Y_hat: Tensor, Y: Tensor) -> Tensor:
        return super().loss(Y_hat, Y) / 2


def test_a_loss_that_would_not_be_called() -> None:
    Halved(28)
    with pytest.raises(TypeError, match="override `losses`"):
        Halved(28, carry_state=True)


# Losses


def test_carried_state() -> None:
    model, data = pair(carry_state=True)
    batches = list(model.train_windows(data))[:3]
    nll_BL = torch.cat([model.losses(batch, ALL)[1] for batch in batches], 1)
    X_BL, Y_BL = (torch.cat(parts, 1) for parts in zip(*batches, strict=True))
    torch.testing.assert_close(nll_BL, model.nll((X_BL, Y_BL)), rtol=1e-5, atol=1e-6)
    last_BT, _ = model.losses(batches[0], ALL)
    assert model._state_BS is not None and not model._state_BS.requires_grad and last_BT.requires_grad


def test_output_dropout() -> None:
    """A unit is dropped for a whole window, and the masks do not depend on the number of processes."""
    model, data = pair(output_dropout=0.5)
    X_BT, Y_BT = next(iter(model.train_windows(data)))
    H_TBH, _ = model.hidden_states(X_BT)
    kept_BH = torch.rand(len(X_BT), 6, generator=torch.Generator().manual_seed(7)) >= 0.5
    logits_BTV = (H_TBH * kept_BH * 2 @ model.W_hq + model.b_q).transpose(0, 1)
    expected_BT = -logits_BTV.log_softmax(-1).gather(-1, Y_BT[..., None])[..., 0]
    for share in (ALL, *(slice(rank, len(X_BT), 3) for rank in range(3))):
        model._random.manual_seed(7)
        loss_BT, _ = model.losses((X_BT[share], Y_BT[share]), share)
        torch.testing.assert_close(loss_BT, expected_BT[share])


# Optimiser and schedule


class Rates(Callback):
    """The learning rates of each step."""

    def __init__(self) -> None:
        self.of_steps: list[list[float]] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, model: Any, optimizer: torch.optim.Optimizer) -> None:
        self.of_steps.append([group["lr"] for group in optimizer.param_groups])


def test_adamw_against_torch(sample: Corpus, tmp_path: Path) -> None:
    rates = Rates()
    model, data = pair(optimizer="adamw", schedule="cosine", warm_up=0.3)
    start = {name: weight.clone() for name, weight in model.state_dict().items()}
    fit(tmp_path, model, data, [rates], max_epochs=2, gradient_clip_val=None)
    slow = RNNLMScratch(len(data.vocab), hiddens=6, sigma=0.5)
    slow.load_state_dict(start)
    optimizer = AdamW(slow.parameters(), lr=0.01, weight_decay=0)
    windows, losses = TimeMachine(8, 4, 96, 40, corpus=sample, seed=1), []
    for step, batch in enumerate(batch for _ in range(2) for batch in windows.train_dataloader()):
        optimizer.param_groups[0]["lr"] = rates.of_steps[step][0]
        optimizer.zero_grad()
        loss = slow.nll(batch).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert [row["loss"] for row in rows(tmp_path / "steps.csv")] == pytest.approx(losses, rel=1e-5)
    assert rates.of_steps == [[0.01 * rate_factor(step, 24, "cosine", 0.3)] * 2 for step in range(24)]


@given(steps=st.integers(1, 10_000), warm_up=st.floats(0, 0.99))
def test_warm_up_and_cosine(steps: int, warm_up: float) -> None:
    assert rate_factor(0, steps, "cosine", warm_up) == pytest.approx(1 / max(warm_up * steps, 1))
    middle = steps // 2
    expected = min(1, (middle + 1) / max(warm_up * steps, 1)) * math.cos(math.pi * middle / steps / 2) ** 2
    assert rate_factor(middle, steps, "cosine", warm_up) == pytest.approx(expected, abs=1e-12)
    assert rate_factor(steps - 1, steps, "cosine", warm_up) <= math.sin(math.pi / steps / 2) ** 2 + 1e-12
    assert rate_factor(middle, steps, "constant", 0) == 1


def test_a_schedule_needs_its_end(tmp_path: Path) -> None:
    model, data = pair(schedule="cosine")
    with pytest.raises(SettingError, match=r"^model\.schedule=cosine: [^\n]*$"):
        fit(tmp_path, model, data, max_epochs=-1, max_time="00:00:01:00")

"""Training beyond the book: its windows, noise and targets, and that such a run goes on and can be shared."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from timemachine.runs.metrics import RunLog
from timemachine.runs.validation import validate
from torch import Tensor

from tests.runs.test_resuming import InterruptAt, Interruption
from timemachine.beyond.language_model import RNNLMBeyond
from timemachine.beyond.loaders import train_loader
from timemachine.beyond.streams import Noise, StreamLoader
from timemachine.config import Optimizer, Schedule, Train, Trainer, Training
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.training.trainer import build_trainer

ALL_OF_IT = Training(
    optimizer=Optimizer.adamw,
    schedule=Schedule.cosine,
    warm_up=0.2,
    carry_state=True,
    input_dropout=0.3,
    output_dropout=0.3,
    teacher=0.5,
    teacher_networks=1,
)
UNK = 1


def loader(
    length: int, batch_size: int, num_steps: int, chance: float = 0.0, rank: int = 0, world_size: int = 1
) -> StreamLoader:
    chars_N = torch.arange(length) % 251 + 2
    noise = Noise(chance, UNK, torch.Generator().manual_seed(3))
    return StreamLoader(chars_N.to(torch.uint8), batch_size, num_steps, noise, rank, world_size)


# Windows end to end


@given(length=st.integers(2, 250), batch_size=st.integers(1, 5), num_steps=st.integers(1, 9))
def test_a_window_goes_on_where_the_last_one_ended(length: int, batch_size: int, num_steps: int) -> None:
    if length // batch_size < num_steps:
        with pytest.raises(SettingError, match=rf"data.batch_size={batch_size}: .* type for example data.batch_size="):
            loader(length, batch_size, num_steps)
        return
    batches = list(loader(length, batch_size, num_steps))
    assert len(batches) == length // batch_size // num_steps
    inputs_BL, targets_BL = (torch.cat(parts, 1) for parts in zip(*batches, strict=True))
    assert torch.equal(targets_BL, (inputs_BL - 2 + 1) % length + 2)  # the text is a ring
    assert torch.equal(inputs_BL[:, 1:], targets_BL[:, :-1])
    assert len(inputs_BL.flatten().unique()) == inputs_BL.numel()  # no character twice


def test_each_epoch_begins_at_another_place() -> None:
    several = loader(200, 4, 5)
    assert len({next(iter(several))[0][0, 0].item() for _ in range(20)}) > 10


def test_noise_hides_inputs_and_no_target() -> None:
    X_BT, Y_BT = (torch.cat(parts) for parts in zip(*loader(20_000, 4, 50, chance=0.2), strict=True))
    hidden_BT = X_BT == UNK
    assert hidden_BT.float().mean() == pytest.approx(0.2, abs=0.02)
    assert not (Y_BT == UNK).any()
    plain_BT = torch.cat([X for X, _ in loader(20_000, 4, 50)])
    assert torch.equal(X_BT[~hidden_BT], plain_BT[~hidden_BT])


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_shares_of_processes_are_the_batch_noise_and_all(world_size: int) -> None:
    shares = [list(loader(300, 5, 7, 0.3, rank, world_size)) for rank in range(world_size)]
    for number, (X_BT, Y_BT) in enumerate(loader(300, 5, 7, 0.3)):
        for rank, share in enumerate(shares):
            assert torch.equal(share[number][0], X_BT[rank::world_size])
            assert torch.equal(share[number][1], Y_BT[rank::world_size])


# The losses


ALL = slice(0, 8, 1)  # windows of a batch


def trained_on(corpus: Corpus, training: Training) -> tuple[RNNLMBeyond, TimeMachine]:
    torch.manual_seed(0)
    data = TimeMachine(8, 4, 3 * 8 * 4, 40, corpus=corpus, seed=1, train_loader=train_loader(training))
    return RNNLMBeyond(len(data.vocab), training, hiddens=6, sigma=0.5, lr=0.01), data


def test_the_state_is_carried_from_one_window_to_the_next_and_not_differentiated(sample: Corpus) -> None:
    model, data = trained_on(sample, Training(carry_state=True))
    batches = list(data.train_dataloader())[:3]
    found_BT = torch.cat([model.losses(batch, ALL)[1] for batch in batches], 1)
    X_BL, Y_BL = (torch.cat(parts, 1) for parts in zip(*batches, strict=True))
    torch.testing.assert_close(found_BT, model.nll((X_BL, Y_BL)), rtol=1e-5, atol=1e-6)
    last_BT, _ = model.losses(batches[0], ALL)
    state_BH = model._state_BS
    assert state_BH is not None and not state_BH.requires_grad and last_BT.requires_grad


def test_a_teacher_is_learnt_from_in_its_text_and_the_characters_themselves_in_the_real_one(sample: Corpus) -> None:
    model, data = trained_on(sample, Training(carry_state=True, teacher=3))
    stop = data.splits["train"].targets.stop
    loader: Any = data.train_dataloader()
    assert len(loader.chars_N) == 4 * stop
    assert torch.equal(loader.chars_N[:stop], data.chars_N[:stop])
    assert torch.equal(loader.target_NV[:stop].argmax(1), data.chars_N[:stop].long())
    assert loader.target_NV[stop:].max() < 1
    X_BT, Y_BT, target_BTV = next(iter(loader))
    loss_BT, nll_BT = model.losses((X_BT, Y_BT, target_BTV), ALL)
    logits_BTV, _ = model(X_BT)
    expected_BT = F.cross_entropy(logits_BTV.flatten(0, 1), target_BTV.flatten(0, 1), reduction="none").view(Y_BT.shape)
    torch.testing.assert_close(loss_BT, expected_BT, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(nll_BT, model.nll((X_BT, Y_BT)), rtol=1e-5, atol=1e-6)


def test_units_are_dropped_for_a_whole_window_and_alike_however_many_processes_share_it(sample: Corpus) -> None:
    def shares(world_size: int) -> list[Tensor]:
        losses = []
        for rank in range(world_size):
            model, data = trained_on(sample, Training(output_dropout=0.5))
            model._noise.manual_seed(7)
            X_BT, Y_BT = next(iter(data.train_dataloader()))
            share = slice(rank, len(X_BT), world_size)
            losses.append(model.losses((X_BT[share], Y_BT[share]), share)[0])
        return losses

    (whole_BT,) = shares(1)
    for rank, share_BT in enumerate(shares(3)):
        torch.testing.assert_close(share_BT, whole_BT[rank::3])
    model, data = trained_on(sample, Training(output_dropout=0.5))
    X_BT, Y_BT = next(iter(data.train_dataloader()))
    H_TBH, _ = model.rnn(X_BT.T)
    model._noise.manual_seed(7)
    kept_BH = torch.rand(len(X_BT), 6, generator=torch.Generator().manual_seed(7)) >= 0.5
    logits_BTV = (H_TBH * kept_BH * 2 @ model.W_hq + model.b_q).transpose(0, 1)
    expected_BT = -logits_BTV.log_softmax(-1).gather(-1, Y_BT[..., None])[..., 0]
    torch.testing.assert_close(model.losses((X_BT, Y_BT), ALL)[0], expected_BT)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_process_without_a_share_of_a_batch_trains_on_nothing(activation: str) -> None:
    model = RNNLMScratch(5, hiddens=3, activation=activation)
    nothing_0T = torch.empty(0, 4, dtype=torch.int64)
    nll_0T = model.nll((nothing_0T, nothing_0T))
    torch.autograd.backward(nll_0T.sum())
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


# A run that goes on


def train(folder: Path, interrupt_at: int | None = None) -> dict[str, Any]:
    """The last checkpoint of a run of 4 epochs of 4 steps; it goes on from the one that is in the folder."""
    folder.mkdir(exist_ok=True)
    model, data = trained_on(find_corpus("sample", []), ALL_OF_IT)
    chosen = Trainer(max_epochs=4, gradient_clip_val=1, devices=1, accelerator="cpu", num_sanity_val_steps=0)
    chosen.enable_model_summary = False
    trainer = build_trainer(Train(trainer=chosen, training=ALL_OF_IT), folder, [RunLog(folder)], quiet=True)
    if interrupt_at is not None:
        vars(trainer)["callbacks"].append(InterruptAt(interrupt_at))
    last = folder / "checkpoints" / "last.ckpt"
    if last.exists():
        validate(folder, trainer, model, data)
    trainer.fit(model, data, ckpt_path=last if last.exists() else None)
    return dict(torch.load(last, weights_only=True))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("uninterrupted")
    return train(folder), (folder / "steps.csv").read_text()


@settings(max_examples=4)
@given(step=st.integers(4, 15))
def test_with_noise_momentum_and_schedule_a_run_goes_on_bit_for_bit(
    uninterrupted: tuple[dict[str, Any], str], tmp_path_factory: pytest.TempPathFactory, step: int
) -> None:
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.raises(Interruption):
        train(folder, step)
    assert (folder / "checkpoints/last.ckpt").is_file()
    found, (expected, steps) = train(folder), uninterrupted
    assert (folder / "steps.csv").read_text() == steps
    assert all(torch.equal(found["state_dict"][name], weight) for name, weight in expected["state_dict"].items())
    moments, expected_moments = (state["optimizer_states"][0]["state"] for state in (found, expected))
    assert torch.equal(moments[0]["exp_avg_sq"], expected_moments[0]["exp_avg_sq"])


def test_one_group_of_parameters_more_or_less_mixes_no_moments(sample: Corpus) -> None:
    """An optimiser's state knows a parameter by its number alone."""
    shapes = []
    for factor in (1.0, 30.0):
        model = RNNLMBeyond(28, ALL_OF_IT, hiddens=6, input_lr_factor=factor)
        groups = model.configure_optimizers().param_groups
        shapes.append([p.shape for group in groups for p in group["params"]])
    assert shapes[0] == shapes[1]

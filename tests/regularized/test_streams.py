"""Contiguous windows and input dropout."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from timemachine.errors import SettingError
from timemachine.regularized.streams import InputDropout, StreamLoader

UNK = 1


def loader(
    length: int, batch_size: int, num_steps: int, chance: float = 0.0, rank: int = 0, world_size: int = 1
) -> StreamLoader | InputDropout:
    tokens_N, generator = torch.arange(length) % 251 + 2, torch.Generator().manual_seed(3)
    streams = StreamLoader(tokens_N.to(torch.uint8), batch_size, num_steps, generator, rank, world_size)
    return InputDropout(streams, chance, UNK, generator) if chance else streams


@given(length=st.integers(2, 250), batch_size=st.integers(1, 5), num_steps=st.integers(1, 9))
def test_windows_continue(length: int, batch_size: int, num_steps: int) -> None:
    if length // batch_size < num_steps:
        with pytest.raises(SettingError, match=rf"^data.batch_size={batch_size}: [^\n]*$"):
            loader(length, batch_size, num_steps)
        return
    batches = list(loader(length, batch_size, num_steps))
    assert len(batches) == length // batch_size // num_steps
    inputs_BL, targets_BL = (torch.cat(parts, 1) for parts in zip(*batches, strict=True))
    assert torch.equal(targets_BL, (inputs_BL - 2 + 1) % length + 2)  # the text is circular
    assert torch.equal(inputs_BL[:, 1:], targets_BL[:, :-1])
    assert len(inputs_BL.flatten().unique()) == inputs_BL.numel()  # no repeated character


def test_input_dropout() -> None:
    X_BT, Y_BT = (torch.cat(parts) for parts in zip(*loader(20_000, 4, 50, chance=0.2), strict=True))
    replaced_BT = X_BT == UNK
    assert replaced_BT.float().mean() == pytest.approx(0.2, abs=0.02)
    assert not (Y_BT == UNK).any()
    without_BT = torch.cat([X for X, _ in loader(20_000, 4, 50)])
    assert torch.equal(X_BT[~replaced_BT], without_BT[~replaced_BT])


@pytest.mark.parametrize("world_size", [2, 3])
def test_shares_of_processes(world_size: int) -> None:
    shares = [list(loader(300, 5, 7, 0.3, rank, world_size)) for rank in range(world_size)]
    for number, (X_BT, Y_BT) in enumerate(loader(300, 5, 7, 0.3)):
        for rank, share in enumerate(shares):
            assert torch.equal(share[number][0], X_BT[rank::world_size])
            assert torch.equal(share[number][1], Y_BT[rank::world_size])

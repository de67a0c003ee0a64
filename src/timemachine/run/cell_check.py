"""Check before training that a cell has the properties that training and evaluation rely on.

T time steps, B batch, H hidden units, S size of a state.
"""

import copy
from typing import Any

import torch
from torch import Tensor

from timemachine.errors import SettingError


@torch.no_grad()
def check_model(model: Any, num_steps: int) -> None:
    """Raise SettingError unless the cell of a `RNNLMScratch` has these properties in a window of `num_steps` steps.

    Its outputs are (T, B, H), and its state is one tensor (B, S). No output depends on a later input or on another
    sequence of the batch. Two passes with the state carried give the same as one pass. The check changes neither the
    cell nor the random state.
    """
    T, B = max(num_steps, 2), 2
    X_BT = (torch.arange(B)[:, None] + torch.arange(T)).to(model.device) % model.vocab_size
    inputs, cut = model.inputs(X_BT), T // 2

    def require(holds: bool, what: str) -> None:
        if not holds:
            instead = f"correct {type(model.rnn).__name__}.forward, or use model.cell=rnn"
            raise SettingError(f"model.cell={model.hparams['cell']}: {what}; {instead}")

    def alike(ours: Tensor, theirs: Tensor) -> bool:
        # Both are sums of the same numbers in different orders; rounding errors add up over the steps.
        tolerance = 100 * T * torch.finfo(ours.dtype).eps
        return torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance * float(theirs.abs().max()))

    with torch.random.fork_rng(devices=[]):
        cell = copy.deepcopy(model.rnn).eval()  # without dropout, which would change every pass
        outputs_TBH, state_BS = cell(inputs, None)
        shape = tuple(outputs_TBH.shape)
        require(shape == (T, B, model.hparams["hiddens"]), f"its outputs are {shape}, not (T, B, H)")
        is_state = isinstance(state_BS, Tensor) and state_BS.dim() == 2 and len(state_BS) == B
        require(is_state, "its state is not one tensor (B, S)")
        other_TBH, _ = cell(torch.cat([inputs[:cut], inputs[cut:].roll(1, 1)]), None)
        is_causal = alike(other_TBH[:cut], outputs_TBH[:cut])
        require(is_causal, "its outputs depend on later inputs, which they should predict")
        alone_T1H, _ = cell(inputs[:, :1], None)
        require(alike(alone_T1H, outputs_TBH[:, :1]), "its outputs depend on the other windows of the batch")
        first_TBH, carried_BS = cell(inputs[:cut], None)
        second_TBH, last_BS = cell(inputs[cut:], carried_BS)
        is_one_pass = alike(torch.cat([first_TBH, second_TBH]), outputs_TBH) and alike(last_BS, state_BS)
        require(is_one_pass, "two passes with the state carried differ from one pass")

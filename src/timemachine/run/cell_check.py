"""Whether a cell keeps the promises that training and evaluation rely on, asked before training.

T time steps, B batch, H hidden units, S numbers of a state.
"""

import copy
from typing import Any

import torch
from torch import Tensor

from timemachine.errors import SettingError


@torch.no_grad()
def check_model(model: Any, num_steps: int) -> None:
    """Raise SettingError if the cell of a `RNNLMScratch` breaks a promise in a window of `num_steps` steps.

    The outputs are (T, B, H), the state is one tensor (B, S), no output changes with a later input or another sequence,
    and two passes with the state carried are one pass. The cell and the random state are left as they are.
    """
    T, B = max(num_steps, 2), 2
    X_BT = (torch.arange(B)[:, None] + torch.arange(T)).to(model.device) % model.vocab_size
    inputs, cut = model.inputs(X_BT), T // 2

    def require(holds: bool, what: str) -> None:
        if not holds:
            mend = f"mend {type(model.rnn).__name__}.forward, or type model.cell=rnn"
            raise SettingError(f"model.cell={model.hparams['cell']}: {what}; {mend}")

    def alike(ours: Tensor, theirs: Tensor) -> bool:
        # Sums of the same numbers in another order, over the steps.
        tolerance = 100 * T * torch.finfo(ours.dtype).eps
        return torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance * float(theirs.abs().max()))

    with torch.random.fork_rng(devices=[]):
        cell = copy.deepcopy(model.rnn).eval()  # its dropout, if it has any, is off
        outputs_TBH, state_BS = cell(inputs, None)
        shape = tuple(outputs_TBH.shape)
        require(shape == (T, B, model.hparams["hiddens"]), f"its outputs are {shape}, not (T, B, H)")
        is_state = isinstance(state_BS, Tensor) and state_BS.dim() == 2 and len(state_BS) == B
        require(is_state, "its state is not one tensor (B, S)")
        other_TBH, _ = cell(torch.cat([inputs[:cut], inputs[cut:].roll(1, 1)]), None)
        is_causal = alike(other_TBH[:cut], outputs_TBH[:cut])
        require(is_causal, "its outputs change with later inputs, which they have to predict")
        alone_T1H, _ = cell(inputs[:, :1], None)
        require(alike(alone_T1H, outputs_TBH[:, :1]), "its outputs change with the other windows of a batch")
        first_TBH, carried_BS = cell(inputs[:cut], None)
        second_TBH, last_BS = cell(inputs[cut:], carried_BS)
        is_one_pass = alike(torch.cat([first_TBH, second_TBH]), outputs_TBH) and alike(last_BS, state_BS)
        require(is_one_pass, "two passes with the state carried differ from one pass")

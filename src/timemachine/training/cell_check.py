"""Whether a cell keeps the promises that training and evaluation rely on, asked before training.

T time steps, B batch, D inputs, H hidden units, S numbers of a state.
"""

import copy
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from timemachine.errors import SettingError


class CellCheck(Callback):
    """Refuses to train a cell that breaks a promise."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Call `check_model` before training."""
        if stage == "fit":
            check_model(pl_module, trainer.datamodule.num_steps)  # type: ignore[attr-defined]


def check_model(model: Any, num_steps: int) -> None:
    """Raise SettingError if the cell of a `RNNLMScratch` breaks a promise in a window of so many steps."""
    X_BT = (torch.arange(2)[:, None] + torch.arange(max(num_steps, 2))).to(model.device) % model.vocab_size
    check_cell(model.hparams["cell"], model.rnn, model.inputs(X_BT), model.hparams["hiddens"])


@torch.no_grad()
def check_cell(name: str, cell: nn.Module, inputs: Tensor, num_hiddens: int) -> None:
    """Raise SettingError unless a cell keeps the promises that training and evaluation rely on.

    The outputs are (T, B, H), the state is one tensor (B, S), no output changes with a later input or another sequence,
    and two passes with the state carried are one pass. `name`: that of `model.cell`; `inputs`: indices (T, B) or
    vectors (T, B, D), of sequences that differ at each step. The cell and the random state are left as they are.
    """
    T, B = inputs.shape[:2]
    cut = T // 2

    def keeps(holds: bool, what: str) -> None:
        if not holds:
            mend = f"mend {type(cell).__name__}.forward, or type model.cell=rnn"
            raise SettingError(f"model.cell={name}: {what}; {mend}")

    def alike(ours: Tensor, theirs: Tensor) -> bool:
        # Sums of the same numbers in another order, over the steps.
        tolerance = 100 * T * torch.finfo(ours.dtype).eps
        return torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance * float(theirs.abs().max()))

    with torch.random.fork_rng(devices=[]):
        cell_alone = copy.deepcopy(cell).eval()  # its dropout, if it has any, is off
        outputs_TBH, state_BS = cell_alone(inputs, None)
        keeps(outputs_TBH.shape == (T, B, num_hiddens), f"its outputs are {tuple(outputs_TBH.shape)}, not (T, B, H)")
        is_state = isinstance(state_BS, Tensor) and state_BS.dim() == 2 and len(state_BS) == B
        keeps(is_state, "its state is not one tensor (B, S)")
        other_TBH, _ = cell_alone(torch.cat([inputs[:cut], inputs[cut:].roll(1, 1)]), None)
        is_causal = alike(other_TBH[:cut], outputs_TBH[:cut])
        keeps(is_causal, "its outputs change with later inputs, which they shall predict")
        alone_T1H, _ = cell_alone(inputs[:, :1], None)
        keeps(alike(alone_T1H, outputs_TBH[:, :1]), "its outputs change with the other windows of a batch")
        first_TBH, carried_BS = cell_alone(inputs[:cut], None)
        second_TBH, last_BS = cell_alone(inputs[cut:], carried_BS)
        is_one_pass = alike(torch.cat([first_TBH, second_TBH]), outputs_TBH) and alike(last_BS, state_BS)
        keeps(is_one_pass, "two passes with the state carried differ from one pass")

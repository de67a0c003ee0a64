"""RNNLMBeyond: the book's model with other training methods.

B batch, T time steps, V vocabulary, H hidden units.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import AdamW, Optimizer

from timemachine.config import Optimizer as OptimizerName
from timemachine.config import Schedule, Training
from timemachine.datamodule import targets_per_process
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.language_model import sum_over


class RNNLMBeyond(FusedRNNLM):
    """`FusedRNNLM` with the methods of `config.Training`; `network`: the other arguments of `FusedRNNLM`.

    AdamW: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019. Weight decay did not help.
    """

    def __init__(self, vocab_size: int, training: Training, **network: Any) -> None:
        super().__init__(vocab_size, **network)
        self.training_settings = training
        self._needs_states = bool(training.carry_state or training.output_dropout)
        self._random = torch.Generator()
        self._state_BS: Tensor | None = None  # after the last batch, with consecutive windows

    def kernel(self) -> str:
        """As in `FusedRNNLM`, but bptt instead of fused if states are needed, since the fused kernel returns none."""
        found = super().kernel()
        return "bptt" if self._needs_states and found == "fused" else found

    def configure_optimizers(self) -> Optimizer:
        """Return SGD or AdamW; the schedule multiplies `initial_lr` of each group."""
        if self.training_settings.optimizer is OptimizerName.adamw:
            optimizer: Optimizer = AdamW(self.parameter_groups(), weight_decay=0)
        else:
            optimizer = super().configure_optimizers()
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        return optimizer

    def on_train_epoch_start(self) -> None:
        """Reset the state to zero, and seed the dropout noise from the run's seed and the epoch alone."""
        # A run resumes at the start of an epoch, so this seed is all that it needs to draw the same noise.
        self._random.manual_seed((torch.initial_seed() * 1_000_003 + self.current_epoch) % 2**63)
        self._state_BS = None

    def on_train_batch_start(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Set the learning rates of the step."""
        if self.training_settings.warm_up or self.training_settings.schedule is not Schedule.constant:
            steps = self.trainer.estimated_stepping_batches
            set_rates(self.trainer.optimizers[0], self.global_step, steps, self.training_settings)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """Return the batch's mean cross-entropy with the targets, or with a teacher's distributions."""
        if not self._needs_states:
            return super().training_step((batch[0], batch[1]), batch_idx)
        loader: Any = self.trainer.train_dataloader
        share = slice(self.global_rank, loader.global_size(batch_idx), self.trainer.world_size)
        loss_BT, nll_BT = self.losses(batch, share)
        self.train_perplexity.update(nll_BT.detach())
        return sum_over(loss_BT, targets_per_process(self.trainer, (batch[0], batch[1]), batch_idx))

    def losses(self, batch: tuple[Tensor, ...], share: slice) -> tuple[Tensor, Tensor]:
        """Return the loss to minimise and the negative log-likelihood of each target (B, T), in nats.

        `batch`: inputs and targets (B, T), and with a teacher its distributions (B, T, V), to learn instead of targets.
        The targets include the teacher's text, so `train/perplexity` covers both texts. `share`: this process's windows
        in the batch of all processes, for noise that does not depend on their number.
        """
        training, (X_BT, Y_BT, *target_BTV) = self.training_settings, batch
        H_TBH, state_BS = self.hidden_states(X_BT, self._state_BS)
        if training.carry_state:
            self._state_BS = state_BS.detach()  # gradients end at the start of the window
        if training.output_dropout:
            # The same units at all steps of a window, as in Gal and Ghahramani, "A theoretically grounded application
            # of dropout in recurrent neural networks", 2016.
            kept_BH = torch.rand(share.stop, H_TBH.shape[2], generator=self._random)[share] >= training.output_dropout
            H_TBH = H_TBH * kept_BH.to(H_TBH.device) / (1 - training.output_dropout)
        log_p_BTV = F.log_softmax(self.output_layer(H_TBH), -1)
        nll_BT = -log_p_BTV.gather(-1, Y_BT[..., None])[..., 0]
        return -(target_BTV[0] * log_p_BTV).sum(-1) if training.teacher else nll_BT, nll_BT


def set_rates(optimizer: Optimizer, step: int, steps: float, training: Training) -> None:
    """Set the learning rates of step `step` (from 0) of `steps`; these two determine them, also in a resumed run."""
    # step + 1: at a rate of 0 the first step of a warm-up would change nothing.
    factor = min(1.0, (step + 1) / max(training.warm_up * steps, 1))
    if training.schedule is Schedule.cosine:
        factor *= (1 + math.cos(math.pi * step / steps)) / 2
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor

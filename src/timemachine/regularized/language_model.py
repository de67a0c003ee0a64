"""RegularizedRNNLM: the book's model with dropout, a carried state, AdamW and schedules.

B batch, T time steps, N characters, V vocabulary, H hidden units, S size of a state.
"""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from timemachine.config import REGULARIZED, check, require
from timemachine.datamodule import Batch, TimeMachine, WindowLoader, targets_per_process
from timemachine.errors import SettingError
from timemachine.kernels.language_model import FusedRNNLM, replaced_methods
from timemachine.language_model import sum_over
from timemachine.regularized.streams import InputDropout, StreamLoader


class RegularizedRNNLM(FusedRNNLM):
    """`FusedRNNLM` with other training methods than plain SGD on shuffled windows.

    `optimizer`: sgd or adamw (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019; without weight
    decay, which did not help). `schedule`: constant, or cosine, half a cosine to 0. `warm_up`: fraction of all steps in
    which the learning rate rises from 0. `carry_state`: train on consecutive windows, each from the state after the
    previous one. `input_dropout`: probability that an input is replaced by `<unk>`. `output_dropout`: dropout on the
    hidden units before the output layer. `network`: the other arguments of `FusedRNNLM`. Raises SettingError for an
    invalid value.
    """

    def __init__(
        self,
        vocab_size: int,
        *,
        optimizer: str = "sgd",
        schedule: str = "constant",
        warm_up: float = 0.0,
        carry_state: bool = False,
        input_dropout: float = 0.0,
        output_dropout: float = 0.0,
        **network: Any,
    ) -> None:
        super().__init__(vocab_size, **network)
        check(self.hparams, REGULARIZED, "model.")
        self.carry_state, self.output_dropout = carry_state, output_dropout
        self._needs_states = bool(carry_state or output_dropout)
        reason = "returns no hidden states, which model.carry_state and model.output_dropout need"
        has_states = not self._needs_states or self.hparams["backward"] != "fused"
        require(has_states, "model.backward", "fused", reason, "auto")
        if self._needs_states and (lost := {"loss", "forward", "nll"} & {*replaced_methods(self)}):
            raise TypeError(f"{type(self).__name__}: `losses` does not call {lost}; override `losses` instead")
        self._random = torch.Generator()
        self._state_BS: Tensor | None = None  # after the last batch, with consecutive windows

    def kernel(self, with_states: bool = False) -> str:
        """As in `FusedRNNLM`; `carry_state` and `output_dropout` need the hidden states, too."""
        return super().kernel(with_states or self._needs_states)

    def lacks_kernel(self) -> bool:
        """As in `FusedRNNLM`."""
        return not self._needs_states and super().lacks_kernel()

    def train_windows(self, data: TimeMachine) -> WindowLoader | StreamLoader | InputDropout:
        """Return the training batches of a data module: consecutive windows with `carry_state`, and input dropout.

        Raises SettingError if no window fits into the streams.
        """
        loader: WindowLoader | StreamLoader
        if self.carry_state:
            device, rank, world_size = data.this_process()
            tokens_N = data.tokens_N[: data.splits["train"].targets.stop].to(device)
            loader = StreamLoader(tokens_N, data.batch_size, data.num_steps, data.shuffler(), rank, world_size)
        else:
            loader = data.windows("train", data.batch_size, data.shuffler())
        if chance := self.hparams["input_dropout"]:
            return InputDropout(loader, chance, data.vocab.unk, data.generator)
        return loader

    def configure_optimizers(self) -> Any:
        """Return SGD or AdamW; with a schedule or a warm-up also a scheduler, which sets the rates of each step.

        Raises SettingError if the schedule needs the number of steps and the Trainer does not know it.
        """
        is_adamw = self.hparams["optimizer"] == "adamw"
        optimizer = AdamW(self.parameter_groups(), weight_decay=0) if is_adamw else super().configure_optimizers()
        schedule, warm_up = self.hparams["schedule"], self.hparams["warm_up"]
        if schedule == "constant" and not warm_up:
            return optimizer
        steps = self.trainer.estimated_stepping_batches
        if math.isinf(steps):
            name, value = ("warm_up", warm_up) if warm_up else ("schedule", schedule)
            reason = "needs the number of steps; set trainer.max_epochs or trainer.max_steps"
            raise SettingError(f"model.{name}={value}: {reason}")
        # A function, which a scheduler leaves out of its state: a longer resumed run follows the longer schedule.
        scheduler = LambdaLR(optimizer, lambda step: rate_factor(step, steps, schedule, warm_up))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Reset the state to zero, and seed the dropout noise from the run's seed and the epoch alone."""
        # A run resumes at the start of an epoch, so this seed is all that it needs to draw the same noise.
        self._random.manual_seed((torch.initial_seed() * 1_000_003 + self.current_epoch) % 2**63)
        self._state_BS = None

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean cross-entropy of a batch."""
        if not self._needs_states:
            return super().training_step(batch, batch_idx)
        loader, world_size = cast(Any, self.trainer.train_dataloader), self.trainer.world_size
        num_windows = loader.global_size(batch_idx) if hasattr(loader, "global_size") else len(batch[0]) * world_size
        share = slice(self.global_rank, num_windows, world_size)
        loss_BT, nll_BT = self.losses(batch, share)
        self.train_perplexity.update(nll_BT.detach())
        return sum_over(loss_BT, targets_per_process(self.trainer, batch, batch_idx))

    def losses(self, batch: Batch, share: slice) -> tuple[Tensor, Tensor]:
        """Return the loss to minimise and the negative log-likelihood of each target (B, T), in nats.

        They are equal here; a subclass may minimise another loss. `share`: this process's windows in the batch of all
        processes, for noise that does not depend on their number.
        """
        X_BT, Y_BT = batch
        H_TBH, state_BS = self.hidden_states(X_BT, self._state_BS)
        if self.carry_state:
            self._state_BS = state_BS.detach()  # gradients end at the start of the window
        if self.output_dropout:
            # The same units at all steps of a window, as in Gal and Ghahramani, "A theoretically grounded application
            # of dropout in recurrent neural networks", 2016.
            kept_BH = torch.rand(share.stop, H_TBH.shape[2], generator=self._random)[share] >= self.output_dropout
            H_TBH = H_TBH * kept_BH.to(H_TBH.device) / (1 - self.output_dropout)
        log_p_BTV = F.log_softmax(self.output_layer(H_TBH), -1)
        nll_BT = -log_p_BTV.gather(-1, Y_BT[..., None])[..., 0]
        return nll_BT, nll_BT


def rate_factor(step: int, steps: float, schedule: str, warm_up: float) -> float:
    """Return the factor of the learning rates in step `step` (from 0) of `steps`."""
    # step + 1: at a rate of 0 the first step of a warm-up would change nothing.
    factor = min(1.0, (step + 1) / max(warm_up * steps, 1))
    if schedule == "cosine":
        factor *= (1 + math.cos(math.pi * step / steps)) / 2
    return factor

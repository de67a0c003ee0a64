"""What a run's loggers learn of each step, and of the epoch that it belongs to."""

import math
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from timemachine.errors import Diverged
from timemachine.language_model import RNNLMScratch
from timemachine.training.lightning import has_scaler, metrics_of_epoch

StepRow = dict[str, float]  # epoch (from 0), step (from 1), loss, grad_norm, grad_norm_clipped


@runtime_checkable
class TakesSteps(Protocol):
    """A logger that is given an epoch's steps at once, and its metrics before Lightning's own call of `log_metrics`."""

    def log_steps(self, rows: list[StepRow], of_epoch: dict[str, float]) -> None:
        """Take the steps since the last call, and at an epoch's end what follows from them, a part of its metrics."""
        ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Take metrics, perhaps the same ones twice."""
        ...


class Steps(Callback):
    """Reads the loss and both norms of each step, and the clock; hands them to the loggers at the end of an epoch.

    An epoch's metrics reach the loggers before its checkpoint is written, so that a run that is killed between the two
    lacks nothing when it is resumed.
    """

    def __init__(self) -> None:
        self._rows: list[tuple[int, Tensor]] = []  # step; (loss, norm, norm after clipping); since the last epoch's end
        self._last_finite_norm = math.nan
        self._first_unsound: tuple[int, str] | None = None  # step, and what was not finite
        self._num_chars, self._epoch_began, self._batch_ended = 0, 0.0, 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._num_chars, self._epoch_began = 0, perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the step, if the batch ended one, and stop the clock: validation does not count."""
        self._note(pl_module, trainer.global_step)
        self._num_chars += batch[1].numel() * trainer.world_size
        self._batch_ended = perf_counter()

    def _note(self, model: pl.LightningModule, step: int) -> None:
        assert isinstance(model, RNNLMScratch)
        if step and (not self._rows or self._rows[-1][0] != step):
            self._rows.append((step, torch.stack([model.loss, model.grad_norm, model.grad_norm_clipped])))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Hand over the steps, the share of them that was clipped, the speed, and the rate of the last step.

        Through `self.log` these three numbers cost 0.7 ms an epoch, a thirtieth of it.
        """
        rows = self._take(trainer)
        clipped = sum(row["grad_norm"] > row["grad_norm_clipped"] for row in rows) / max(len(rows), 1)
        speed = self._num_chars / max(self._batch_ended - self._epoch_began, 1e-9)
        here = torch.tensor(speed, dtype=torch.float64, device=trainer.strategy.root_device)
        speed = float(trainer.strategy.reduce(here, reduce_op="mean"))
        rate = trainer.optimizers[0].param_groups[-1]["lr"]  # the last group is never the input's, which has a factor
        self._hand_over(trainer, rows, {"clip_fraction": clipped, "chars_per_second": speed, "lr": rate})

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Give our loggers the epoch's metrics before its checkpoint is written."""
        metrics = metrics_of_epoch(trainer)
        for logger in trainer.loggers:
            if isinstance(logger, TakesSteps):
                logger.log_metrics(metrics | {"epoch": trainer.current_epoch}, step=trainer.global_step - 1)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Hand over the steps that led to divergence, and say where it began and what to type."""
        if not isinstance(exception, Diverged):
            return
        if exception.what in ("the loss", "the gradient"):  # the step was refused, so it has not ended
            self._note(pl_module, trainer.global_step + 1)
        self._hand_over(trainer, self._take(trainer), {})
        step, what = self._first_unsound or (trainer.global_step, exception.what)
        epoch, theta, lr = trainer.current_epoch, trainer.gradient_clip_val, pl_module.hparams["lr"]
        remains = f"the checkpoint of epoch {epoch} remains" if epoch else "there is no checkpoint yet"
        message = (
            f"diverged in epoch {epoch + 1}, step {step}: {what} is not finite (last finite gradient norm "
            f"{self._last_finite_norm:.4g}); {remains}. Type trainer.gradient_clip_val={theta / 10 if theta else 1:g} "
            f"(now {theta or 'none'}), or a smaller model.lr (now {lr:g})"
        )
        exception.args = (message,)

    def _take(self, trainer: pl.Trainer) -> list[StepRow]:
        """Return the steps since the last call."""
        if not self._rows:
            return []
        numbers, rows = zip(*self._rows, strict=True)
        self._rows.clear()
        losses_N, norms_N, clipped_N = torch.stack(rows, 1)
        losses_N = trainer.strategy.reduce(losses_N, reduce_op="mean")
        epoch = trainer.current_epoch
        return [
            {"epoch": epoch, "step": number, "loss": loss, "grad_norm": norm, "grad_norm_clipped": clipped}
            for number, loss, norm, clipped in zip(
                numbers, losses_N.tolist(), norms_N.tolist(), clipped_N.tolist(), strict=True
            )
        ]

    def _hand_over(self, trainer: pl.Trainer, rows: list[StepRow], of_epoch: dict[str, float]) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TakesSteps):
                logger.log_steps(rows, of_epoch)
            else:  # TensorBoard
                for row in rows:
                    logger.log_metrics({name: row[name] for name in row if name != "step"}, step=int(row["step"]))
                logger.log_metrics(of_epoch, step=trainer.global_step - 1)
        self._look_for_unsound(trainer, rows)

    def _look_for_unsound(self, trainer: pl.Trainer, rows: list[StepRow]) -> None:
        for row in rows:
            loss_is_finite, norm_is_finite = math.isfinite(row["loss"]), math.isfinite(row["grad_norm"])
            if not loss_is_finite or not (norm_is_finite or has_scaler(trainer)):
                self._first_unsound = int(row["step"]), "the gradient" if loss_is_finite else "the loss"
                return
            if norm_is_finite:
                self._last_finite_norm = row["grad_norm"]

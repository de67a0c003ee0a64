"""The rows of a run's tables: one for each optimiser step, one for each validation and each epoch's end."""

import math
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch import Tensor

from timemachine.errors import Diverged
from timemachine.training.lightning import has_scaler, metrics_of_epoch, metrics_of_step

Row = dict[str, float]


@runtime_checkable
class TakesRows(Protocol):
    """What is given the rows, such as a file. Epochs and steps count from 1: those that are done."""

    def log_steps(self, rows: list[Row]) -> None:
        """Take the steps since the last call: epoch, step, loss, both norms, what `self.log(on_step=True)` logged."""
        ...

    def log_row(self, row: Row) -> None:
        """Take the metrics of an epoch and step, or add them to those of the same ones before."""
        ...


class Steps(Logger, Callback):
    """Reads loss and norms of each step, the metrics that Lightning logs, and the clock.

    A step may have several batches (`accumulate_grad_batches`): its loss is their mean. An epoch may have several
    validations: each is a row, and the last one shares its row with the epoch's end if it comes there. An epoch's row
    is handed over before its checkpoint is written, so that a run that is killed between the two lacks nothing when it
    is resumed. Lightning's other loggers, such as TensorBoard's, get the steps too.
    """

    def __init__(self, takers: Sequence[TakesRows]) -> None:
        super().__init__()
        self.takers = takers
        self._trainer: pl.Trainer
        self._rows: list[tuple[int, Tensor, dict[str, Tensor]]] = []  # step; (loss, both norms); what else was logged
        self._losses: list[Tensor] = []  # of the batches of the step under way
        self._loss = self._no_loss = torch.tensor(math.nan)  # of the batch under way
        self._last_step = 0
        self._at: Row = {"epoch": 0, "step": 0}  # of the last epoch's end
        self._end_of_epoch: Row | None = None  # what follows from an epoch's steps, until its other metrics are known
        self._last_finite_norm = math.nan
        self._first_unsound: int | None = None  # the step
        self._num_chars, self._epoch_began, self._batch_ended = 0, 0.0, 0.0
        self._validation_began: float | None = None

    @property
    def name(self) -> str:
        """What Lightning asks each logger for."""
        return "steps"

    @property
    def version(self) -> str:
        """None."""
        return ""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Keep the trainer."""
        self._trainer = trainer

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Know the end of a run that is resumed, and only tested if it has nothing left to do."""
        self._at = {"epoch": checkpoint["epoch"] + 1, "step": checkpoint["global_step"]}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin, or go on, after the step of the checkpoint."""
        self._last_step = trainer.global_step

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._hand_over({})
        self._num_chars, self._epoch_began, self._validation_began = 0, perf_counter(), None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Leave a validation in mid-epoch out of the epoch's time; forget the loss of the batch before."""
        self._loss = self._no_loss
        if self._validation_began is not None:
            self._epoch_began += perf_counter() - self._validation_began
            self._validation_began = None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._validation_began = perf_counter()

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Keep the loss, for a step that is refused."""
        self._loss = loss.detach()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the loss, and the step if the batch ended one; stop the clock."""
        loss = outputs["loss"] if outputs else self._loss
        self._losses.append(loss.detach() * trainer.accumulate_grad_batches)  # by which Lightning has divided it
        if trainer.global_step != self._last_step:
            self._last_step = trainer.global_step
            self._note(pl_module, metrics_of_step(trainer))
        self._num_chars += batch[1].numel() * trainer.world_size
        self._batch_ended = perf_counter()

    def _note(self, model: Any, logged: dict[str, Tensor]) -> None:
        loss = torch.stack(self._losses).double().mean()
        self._rows.append((self._last_step, torch.stack([loss, model.grad_norm, model.grad_norm_clipped]), logged))
        self._losses.clear()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Hand over the steps; note their mean norms, the share that was clipped, the speed, the last step's rate.

        Through `self.log` these numbers cost 0.7 ms an epoch, a thirtieth of it.
        """
        rows = self._take()
        self._at = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        row = dict(self._at)
        for name in ("grad_norm", "grad_norm_clipped"):
            row[name] = math.fsum(step[name] for step in rows) / len(rows) if rows else math.nan
        clipped = sum(step["grad_norm"] > step["grad_norm_clipped"] for step in rows) / max(len(rows), 1)
        speed = self._num_chars / max(self._batch_ended - self._epoch_began, 1e-9)
        here = torch.tensor(speed, dtype=torch.float64, device=trainer.strategy.root_device)
        speed = float(trainer.strategy.reduce(here, reduce_op="mean"))
        of_epoch = {"clip_fraction": clipped, "chars_per_second": speed}
        if trainer.optimizers:  # the last group is never the input's, which has a factor
            of_epoch["lr"] = trainer.optimizers[0].param_groups[-1]["lr"]
        for logger in self._others():
            logger.log_metrics(of_epoch, step=trainer.global_step - 1)
        self._end_of_epoch = row | of_epoch

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Hand over the epoch's row before its checkpoint is written."""
        if self._end_of_epoch is not None:
            self._hand_over(metrics_of_epoch(trainer))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Hand over what Lightning logs of a validation, an epoch or a test; it logs some steps, too."""
        if self._end_of_epoch is not None or not self._trainer.training:
            self._hand_over({name: float(value) for name, value in metrics.items() if name != "epoch"})

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: summary.json has the settings."""

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Hand over the last epoch's row, if nothing has been logged and no checkpoint written."""
        self._hand_over({})

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Hand over the steps that led to divergence, and say where it began and what to type."""
        if not isinstance(exception, Diverged):
            return
        if exception.what == "the gradient":  # the step was refused, so its batch has not ended
            self._losses.append(self._loss * trainer.accumulate_grad_batches)
            self._last_step = trainer.global_step + 1
            self._note(pl_module, {})
        self._take()
        step, what = self._first_unsound or trainer.global_step, exception.what
        if self._first_unsound:
            what = "the gradient"
        epoch, theta, network = trainer.current_epoch, trainer.gradient_clip_val, pl_module.hparams
        culprit = "sigma" if network["sigma"] >= 1 else "lr"
        remains = f"the checkpoint of epoch {epoch} remains" if epoch else "there is no checkpoint yet"
        message = (
            f"diverged in epoch {epoch + 1}, step {step}: {what} is not finite (last finite gradient norm "
            f"{self._last_finite_norm:.4g}); {remains}. Type trainer.gradient_clip_val={theta / 10 if theta else 1:g} "
            f"(now {theta or 'none'}), or a smaller model.{culprit} (now {network[culprit]:g})"
        )
        exception.args = (message,)

    def _take(self) -> list[Row]:
        """Hand over the steps since the last call, and return them."""
        if not self._rows:
            return []
        trainer = self._trainer
        steps, tensors, logged = zip(*self._rows, strict=True)
        self._rows.clear()
        losses_N, norms_N, clipped_N = torch.stack(tensors, 1)
        losses_N = trainer.strategy.reduce(losses_N, reduce_op="mean")
        rows = [
            {"epoch": trainer.current_epoch + 1, "step": step, "loss": loss, "grad_norm": norm, "grad_norm_clipped": c}
            | {name: float(value) for name, value in others.items()}
            for step, loss, norm, c, others in zip(
                steps, losses_N.tolist(), norms_N.tolist(), clipped_N.tolist(), logged, strict=True
            )
        ]
        for taker in self.takers:
            taker.log_steps(rows)
        for logger in self._others():
            for row in rows:
                numbers = {name: row[name] for name in row if name not in ("epoch", "step")}
                logger.log_metrics(numbers, step=int(row["step"]) - 1)  # Lightning counts from 0
        for row in rows:
            if math.isfinite(row["grad_norm"]):
                self._last_finite_norm = row["grad_norm"]
            elif not has_scaler(trainer):
                self._first_unsound = self._first_unsound or int(row["step"])
                break
        return rows

    def _hand_over(self, metrics: Row) -> None:
        """Hand over metrics: with an epoch's end if it is there, or else of the step under way."""
        trainer, row = self._trainer, self._end_of_epoch
        self._end_of_epoch = None
        if row is None and metrics:
            row = dict(self._at)  # a test is one of the last epoch's weights
            if not trainer.testing:
                row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        if row is not None:
            for taker in self.takers:
                taker.log_row(row | metrics)

    def _others(self) -> list[Logger]:
        """Return Lightning's other loggers."""
        return [logger for logger in self._trainer.loggers if logger is not self]

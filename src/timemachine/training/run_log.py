"""What a run logs: metrics.csv, a row a validation or an epoch, and steps.csv, a row an optimiser step."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch import Tensor

from timemachine.errors import Diverged, UserError
from timemachine.runs.rows import EPOCH_COLUMNS, STEP_COLUMNS, Row, Table, read_numbers
from timemachine.runs.tables import short
from timemachine.training.lightning import logged_twice, metrics_of_epoch, metrics_of_step

OF_EPOCHS = {"grad_norm", "grad_norm_clipped", "clip_fraction", "chars_per_second", "lr"}  # that `self.log` never has


@runtime_checkable
class TakesRows(Protocol):
    """What is given the rows beside the files. Epochs and steps count from 1: those that are done."""

    def log_steps(self, rows: list[Row]) -> None:
        """Take the steps since the last call: epoch, step, loss, both norms, what `self.log(on_step=True)` logged."""

    def log_row(self, row: Row) -> None:
        """Take the metrics of an epoch and step, or add them to those of the same ones before."""


class RunLog(Logger, Callback):
    """Writes both tables from the loss and norms of each step, the metrics that Lightning logs, and the clock.

    A step may have several batches (`accumulate_grad_batches`): its loss is their mean. An epoch may have several
    validations: each is a row, and the last one shares its row with the epoch's end if it comes there. An epoch's rows
    are written before its checkpoint, so that a run that is killed between the two lacks nothing when it is resumed;
    what came after the checkpoint is dropped then. Whatever `self.log` logs has a column.

    `takers` get the same rows, Lightning's other loggers, such as TensorBoard's, the same numbers. `prints_lines`: a
    line an epoch, for where there is no progress bar. (Lightning's CSVLogger puts train and val into separate rows.)
    """

    name, version = "run_log", ""  # what Lightning asks each logger for

    def __init__(self, folder: Path, takers: Sequence[TakesRows] = (), prints_lines: bool = False) -> None:
        super().__init__()
        self.takers, self.prints_lines = takers, prints_lines
        self._metrics = Table(folder / "metrics.csv", EPOCH_COLUMNS)
        self._steps = Table(folder / "steps.csv", STEP_COLUMNS)
        self._trainer: pl.Trainer
        self._others: list[Logger] = []  # Lightning's other loggers
        self._resumed_at: int | None = None  # step of the checkpoint, until rows after it are dropped
        self._noted: list[tuple[int, Tensor, dict[str, Tensor]]] = []  # step; loss and norms; what else was logged
        self._is_unread = False  # what else was logged of the last of them
        self._of_callbacks: dict[int, Row] = {}  # step -> what callbacks gave to the loggers themselves
        self._losses: list[Tensor] = []  # of the batches of the step under way
        self._loss = torch.tensor(math.nan)  # of the batch under way
        self._last_step = 0
        self._end_of_epoch: Row | None = None  # what follows from an epoch's steps, until its other metrics are known
        self._last_val = math.nan  # of the epoch
        self._began, self._seconds, self._num_chars = 0.0, 0.0, 0  # a stopwatch, and what the epoch has read

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Keep the trainer and its other loggers."""
        self._trainer, self._others = trainer, [logger for logger in trainer.loggers if logger is not self]

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Note where the run goes on; Lightning may still refuse a setting, which must not change the tables."""
        self._resumed_at = checkpoint["global_step"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin, or go on, after the step of the checkpoint."""
        self._go_back()
        self._last_step = trainer.global_step

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go back to the checkpoint if no epoch was left to train."""
        self._go_back()

    def _go_back(self) -> None:
        if self._resumed_at is not None and self._trainer.is_global_zero:
            self._steps.go_back(self._resumed_at)
            self._metrics.go_back(self._resumed_at)
        self._resumed_at = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the row of the epoch before, unless its checkpoint has been written; start the stopwatch."""
        self._log({})
        self._last_val = math.nan
        self._began, self._seconds, self._num_chars = perf_counter(), 0.0, 0

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Read what was logged of the step before, now that all hooks of its end have been called."""
        self._read_step()

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Keep the loss, for a step that is refused."""
        self._loss = loss.detach()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Note the loss, and the step if the batch ended one; read the stopwatch."""
        loss = outputs["loss"].detach() if outputs else torch.full_like(self._loss, math.nan)
        self._losses.append(loss * trainer.accumulate_grad_batches)  # by which Lightning has divided it
        if trainer.global_step != self._last_step:
            self._note(trainer.global_step, pl_module)
            self._is_unread = True
        self._num_chars += batch[1].numel() * trainer.world_size
        self._seconds = perf_counter() - self._began

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the stopwatch go on from the last batch: a validation in mid-epoch takes no time from the speed."""
        self._began = perf_counter() - self._seconds

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the steps; note their mean norms, the share that was clipped, the speed, the last step's rate.

        Through `self.log` these numbers cost 0.7 ms an epoch, a thirtieth of it.
        """
        self._read_step()
        rows = self._log_steps()
        row: Row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        for name in ("grad_norm", "grad_norm_clipped"):
            row[name] = math.fsum(step[name] for step in rows) / len(rows) if rows else math.nan
        clipped = sum(step["grad_norm"] > step["grad_norm_clipped"] for step in rows)
        speed = torch.tensor(self._num_chars / max(self._seconds, 1e-9), dtype=torch.float64)
        speed = trainer.strategy.reduce(speed.to(trainer.strategy.root_device), reduce_op="mean")
        of_epoch = {"clip_fraction": clipped / max(len(rows), 1), "chars_per_second": float(speed)}
        if trainer.optimizers:  # the last group is never the input's, which has a factor
            of_epoch["lr"] = trainer.optimizers[0].param_groups[-1]["lr"]
        for logger in self._others:
            logger.log_metrics(of_epoch, step=trainer.global_step - 1)
        self._end_of_epoch = row | of_epoch

    def on_save_checkpoint(self, trainer: pl.Trainer, *_: Any) -> None:
        """Log the epoch's row before its checkpoint is written."""
        if self._end_of_epoch is not None:
            self._log(self._numbers_of_epoch(metrics_of_epoch(trainer)))

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log a validation or a test; keep what comes at an epoch's end, or from a callback at a step, for its row."""
        if self._end_of_epoch is not None:
            self._end_of_epoch |= self._numbers_of_epoch(metrics)
        elif not self._trainer.training:
            self._log(self._numbers_of_epoch(metrics))
        elif "epoch" not in metrics and step is not None:  # else it is Lightning, and noted already
            numbers = _numbers(metrics, STEP_COLUMNS)
            self._of_callbacks.setdefault(step + 1, {}).update(numbers)  # Lightning counts from 0

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: summary.json has the settings."""

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the last epoch's row, unless its checkpoint has been written; write a validation that came after it."""
        self._log({})
        self._metrics.flush()

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the test's numbers."""
        self._metrics.flush()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Log the steps that led to divergence; say which was the first, and what to type."""
        if not isinstance(exception, Diverged):
            return
        self._read_step()
        if exception.what == "the gradient":  # the step was refused, so its batch has not ended
            self._losses.append(self._loss * trainer.accumulate_grad_batches)
            self._note(trainer.global_step + 1, pl_module)
        self._log_steps()
        exception.args = (_divergence(trainer, pl_module.hparams, exception.what, read_numbers(self._steps.path)),)

    def _note(self, step: int, model: Any) -> None:
        loss = torch.stack(self._losses).double().mean()
        self._noted.append((step, torch.stack([loss, model.grad_norm, model.grad_norm_clipped]), {}))
        self._losses.clear()
        self._last_step = step

    def _read_step(self) -> None:
        if self._is_unread:
            self._noted[-1][2].update(metrics_of_step(self._trainer))
        self._is_unread = False

    def _numbers_of_epoch(self, logged: Mapping[str, Any]) -> Row:
        replaced = logged_twice(self._trainer) & {*EPOCH_COLUMNS}  # a perplexity, which the model logs
        return _numbers(logged, OF_EPOCHS | replaced)

    def _log_steps(self) -> list[Row]:
        """Log the steps since the last call, and return their rows."""
        if not self._noted:
            return []
        trainer, epoch = self._trainer, self._trainer.current_epoch + 1
        steps, numbers, logged = zip(*self._noted, strict=True)
        self._noted.clear()
        losses_N, norms_N, clipped_N = torch.stack(numbers, 1)
        losses_N = trainer.strategy.reduce(losses_N, reduce_op="mean")
        columns = losses_N.tolist(), norms_N.tolist(), clipped_N.tolist()
        rows: list[Row] = []
        for step, loss, norm, clipped, others in zip(steps, *columns, logged, strict=True):
            row = {"epoch": epoch, "step": step, "loss": loss, "grad_norm": norm, "grad_norm_clipped": clipped}
            rows.append(row | _numbers(others, STEP_COLUMNS))
        if trainer.is_global_zero:
            self._steps.add([self._of_callbacks.pop(row["step"], {}) | row for row in rows])
        for taker in self.takers:
            taker.log_steps(rows)
        for logger in self._others:
            for row in rows:
                logged_here = {name: row[name] for name in row if name not in ("epoch", "step")}
                logger.log_metrics(logged_here, step=row["step"] - 1)  # Lightning counts from 0
        return rows

    def _log(self, metrics: Row) -> None:
        """Log metrics: with an epoch's end if it is there, or else at the step under way; after a fit, the last row.

        Of metrics.csv an epoch's end is written, and a validation in mid-epoch when another row comes.
        """
        trainer, row = self._trainer, self._end_of_epoch
        self._end_of_epoch = None
        if not trainer.is_global_zero or (row is None and not metrics):
            return
        if row is None and trainer.state.fn != "fit":
            row = {name: self._metrics.last.get(name, 0) for name in ("epoch", "step")}
        elif row is None:
            row = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        row |= metrics
        for taker in self.takers:
            taker.log_row(row)
        self._metrics.put(row)
        self._last_val = row.get("val/perplexity", self._last_val)
        if "clip_fraction" in row:
            self._metrics.flush()
            if self.prints_lines:
                train, val = short(row.get("train/perplexity", math.nan)), short(self._last_val)
                print(f"epoch {row['epoch']:>4}  train {train:>8}  val {val:>8}", flush=True)


def _numbers(logged: Mapping[str, Any], ours: Collection[str]) -> Row:
    """Return what was logged as numbers, without epoch and step, an axis to other loggers: a row has its own.

    Raises UserError for a name of `ours`, the run's own numbers.
    """
    numbers = {name: float(value) for name, value in logged.items() if name not in ("epoch", "step")}
    for name in numbers:
        if name in ours:
            rule = "the run logs a number of that name itself"
            raise UserError(f'self.log("{name}", …): {rule}; type another name, such as "own/{name}"')
    return numbers


def _divergence(trainer: pl.Trainer, network: Any, what: str, steps: list[dict[str, float]]) -> str:
    """Return what is said of a run that diverged. `network`: its hyperparameters; `steps`: the rows of steps.csv."""
    step, last_norm = trainer.global_step, math.nan
    for row in steps:
        if math.isfinite(row["grad_norm"]):
            last_norm = row["grad_norm"]
        elif getattr(trainer.precision_plugin, "scaler", None) is None:  # 16-mixed on a GPU skips such steps
            step, what = int(row["step"]), "the gradient"
            break
    epoch, theta = trainer.current_epoch, trainer.gradient_clip_val
    sigma = "sigma_hh" if network.get("sigma_hh") else "sigma"
    remains = f"the checkpoint of epoch {epoch} remains" if epoch else "there is no checkpoint yet"
    return (
        f"diverged in epoch {epoch + 1}, step {step}: {what} is not finite (last finite gradient norm "
        f"{last_norm:.4g}); {remains}. Type trainer.gradient_clip_val={theta / 10 if theta else 1:g} "
        f"(now {theta or 'none'}), or a smaller model.lr (now {network['lr']:g}) or model.{sigma} ({network[sigma]:g})"
    )

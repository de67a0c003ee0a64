"""steps.csv and metrics.csv, written by one callback while a model trains."""

import math
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from timemachine.errors import Diverged, SettingError
from timemachine.run.rows import COLUMNS, Row, add_rows, read, write_rows


class Tables(Callback):
    """Write steps.csv, a row per optimizer step, and metrics.csv, a row per epoch and per validation within one.

    When rows are written: see `_write_epoch`. (Lightning's CSVLogger writes after the checkpoint, and puts the training
    and the validation of an epoch into separate rows.)

    metrics.csv has a column for each metric of `self.log`. The loss of a step is the mean over its batches
    (`accumulate_grad_batches`) and over processes. Numbers stay on the device until the epoch ends, since reading them
    would make each step wait for a GPU.
    """

    def __init__(self, folder: str | Path) -> None:
        self.steps_csv, self.metrics_csv = Path(folder, "steps.csv"), Path(folder, "metrics.csv")
        self.loss, self.losses = torch.tensor(math.nan), list[Tensor]()  # of this batch; of the batches of this step
        self.steps, self.last_step = list[tuple[int, Tensor]](), 0  # of this epoch: number; loss and norms (3,)
        self.row: Row = {}  # of metrics.csv: its last row, until it is written
        self.ended: int | None = None  # an epoch, counted from 1, that has ended and whose rows are pending
        self.num_rows = {path.name: 0 for path in (self.steps_csv, self.metrics_csv)}  # written so far
        self.rows_of_checkpoint: dict[str, int] | None = None
        self.rate = math.nan  # learning rate of the last step
        self.began, self.seconds, self.num_targets = 0.0, 0.0, 0  # a stopwatch; targets read in the epoch

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop the rows after the checkpoint of a resumed run, and the test metrics, which come again.

        Raises SettingError for a table that is missing or lacks rows up to the checkpoint: the best validation and the
        clipped steps in the summary come from the tables.
        """
        self.last_step = trainer.global_step
        for path in (self.steps_csv, self.metrics_csv):
            if trainer.is_global_zero and (path.exists() or self.last_step):
                rows = [row for row in read(path) if row.get("step", "").isdecimal()]
                rows = [row for row in rows if int(row["step"]) <= self.last_step]
                # The last row alone would not show a row that is missing in the middle.
                expected = (self.rows_of_checkpoint or {}).get(path.name, len(rows))
                has_end = bool(rows) and int(rows[-1]["step"]) == self.last_step
                if self.last_step and not (has_end and len(rows) == expected):
                    reason = f"lacks rows up to step {self.last_step} of the checkpoint"
                    raise SettingError(f"{path}: {reason}; restore it, or start another run")
                rows = [{name: "" if name.startswith("test/") else row[name] for name in row} for row in rows]
                write_rows(path, COLUMNS[path.name], rows)
                self.num_rows[path.name] = len(rows)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the previous epoch, forget its metrics, and start the stopwatch."""
        self._write_epoch(trainer)
        _take_logged(trainer)
        self.began, self.seconds, self.num_targets = perf_counter(), 0.0, 0

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Keep the loss: if the gradient is not finite, `on_train_batch_end` is not called."""
        self.loss = loss.detach()

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: torch.optim.Optimizer) -> None:
        """Keep the learning rate: when the epoch ends, a scheduler has set the next one."""
        self.rate = float(optimizer.param_groups[-1]["lr"])  # the first group's may be scaled by `input_lr_factor`

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the loss, and the step if this batch completed one; read the stopwatch."""
        # `outputs` is None if the model's `training_step` returned None, to skip the batch.
        self.losses.append(outputs["loss"].detach() if outputs else torch.full_like(self.loss, math.nan))
        if trainer.global_step != self.last_step:  # unchanged after all but the last of accumulated batches
            self._add_step(trainer.global_step, pl_module)
        # (X, Y). Batches of another form are not counted.
        if isinstance(batch, tuple | list) and len(batch) > 1 and isinstance(batch[1], Tensor):
            self.num_targets += batch[1].numel() * trainer.world_size
        self.seconds = perf_counter() - self.began

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a row, to which the epoch may add if it ends at this step; exclude the validation from the time."""
        self.began = perf_counter() - self.seconds
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._add_metrics(trainer, trainer.current_epoch + 1, {})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mark the epoch's rows as pending."""
        self.ended = trainer.current_epoch + 1

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: Any) -> None:
        """Write the epoch, and record the numbers of rows in the checkpoint."""
        self._write_epoch(trainer)
        checkpoint["tables"] = dict(self.num_rows)

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: Any) -> None:
        """Keep the numbers of rows, to find tables with rows that are missing."""
        self.rows_of_checkpoint = checkpoint.get("tables")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the last epoch."""
        self._write_epoch(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write the row of a validation within the epoch; if it diverged, also its steps, with the one not taken."""
        if isinstance(exception, Diverged):
            if exception.what == "the gradient":
                self.losses.append(self.loss)
                self._add_step(trainer.global_step + 1, pl_module)
            self._write_steps(trainer, trainer.current_epoch + 1)
        self._write_row(trainer)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the metrics of the test to the last row."""
        if trainer.is_global_zero and (rows := read(self.metrics_csv)):
            write_rows(self.metrics_csv, COLUMNS["metrics.csv"], [*rows[:-1], rows[-1] | _take_logged(trainer)])

    def _add_step(self, step: int, model: Any) -> None:
        losses = torch.stack(self.losses) * model.trainer.accumulate_grad_batches  # by which Lightning divided them
        if hasattr(model, "grad_norm"):
            norms = [model.grad_norm, model.grad_norm_clipped]
        else:  # a custom model
            norms = [losses.new_tensor(math.nan, dtype=torch.float64)] * 2
        self.steps.append((step, torch.stack([losses.double().mean(), *norms])))
        self.losses, self.last_step = [], step

    def _add_metrics(self, trainer: pl.Trainer, epoch: int, measured: Row) -> None:
        """Add numbers, and what `self.log` has logged in this epoch, to the last row, or to a new one at a new step."""
        if self.row and self.row["step"] != trainer.global_step:
            self._write_row(trainer)
        self.row |= {"epoch": epoch, "step": trainer.global_step} | measured | _take_logged(trainer)

    def _write_epoch(self, trainer: pl.Trainer) -> None:
        """Write the rows of an epoch that has ended, once; give the loggers the numbers that are computed here.

        Called before each checkpoint, when the next epoch starts, and when the training ends.
        """
        # Not in `on_train_epoch_end`: Lightning computes the training perplexity after this hook. Before a checkpoint:
        # a run that is killed then has all rows up to its last checkpoint, those after it are dropped when the run is
        # resumed, and the tables end with the same bytes as an uninterrupted run's.
        if (epoch := self.ended) is None:
            return
        steps = self._write_steps(trainer, epoch)
        self.ended, self.steps, count = None, [], max(len(steps), 1)
        norms = {name: math.fsum(step[name] for step in steps) / count for name in ("grad_norm", "grad_norm_clipped")}
        is_known = not math.isnan(norms["grad_norm"])  # not of a custom model
        clipped = sum(step["grad_norm"] > step["grad_norm_clipped"] for step in steps) if is_known else math.nan
        # In characters, so that models of characters and of BPE tokens compare.
        num_chars = self.num_targets * _chars_per_token(trainer)
        speed = torch.tensor(
            num_chars / max(self.seconds, 1e-9), dtype=torch.float64, device=trainer.strategy.root_device
        )
        speed = trainer.strategy.reduce(speed, reduce_op="mean")  # the processes' stopwatches differ
        others = {"clip_fraction": clipped / count, "chars_per_second": float(speed), "lr": self.rate}
        for logger in trainer.loggers:
            logger.log_metrics(others | {"epoch": epoch - 1}, step=trainer.global_step - 1)  # they count from 0
        self._add_metrics(trainer, epoch, norms | others)
        self._write_row(trainer)

    def _write_steps(self, trainer: pl.Trainer, epoch: int) -> list[Row]:
        """Append the steps of an epoch to steps.csv, and return them; give the loggers each n-th one."""
        if not self.steps:
            return []
        losses_N, *norms_N = torch.stack([numbers for _, numbers in self.steps], 1)
        losses_N = trainer.strategy.reduce(losses_N, reduce_op="mean")
        columns = [losses_N.tolist(), *(norm_N.tolist() for norm_N in norms_N)]
        rows: list[Row] = []
        for (step, _), *numbers in zip(self.steps, *columns, strict=True):
            measured = dict(zip(COLUMNS["steps.csv"][2:], numbers, strict=True))
            rows.append({"epoch": epoch, "step": step} | measured)
            for logger in trainer.loggers if step % trainer.log_every_n_steps == 0 else ():  # type: ignore[attr-defined]
                logger.log_metrics(measured, step=step - 1)
        if trainer.is_global_zero:
            add_rows(self.steps_csv, rows)
            self.num_rows[self.steps_csv.name] += len(rows)
        return rows

    def _write_row(self, trainer: pl.Trainer) -> None:
        if self.row and trainer.is_global_zero:
            add_rows(self.metrics_csv, [self.row])
            self.num_rows[self.metrics_csv.name] += 1
        self.row = {}


class ValidateLastEpoch(Callback):
    """Validate the last epoch with any `trainer.check_val_every_n_epoch`, since final numbers are of this epoch."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let Lightning validate this epoch if it is the last one."""
        if trainer.check_val_every_n_epoch is not None and trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1


def _take_logged(trainer: pl.Trainer) -> Row:
    """Return the metrics of `self.log` since the last call.

    Lightning 2.6 keeps the metrics of earlier validations; emptying this dict, which is its own, is not documented.
    """
    logged = trainer.logged_metrics
    row = {name: float(value) for name, value in logged.items() if name not in ("epoch", "step")}
    logged.clear()
    return row


def _chars_per_token(trainer: pl.Trainer) -> float:
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    return len(data.corpus.characters) / len(data.tokens_N) if hasattr(data, "corpus") else 1.0  # a custom data module

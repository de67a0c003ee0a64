"""steps.csv and metrics.csv, written by one callback while a run trains."""

import math
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Checkpoint
from torch import Tensor

from timemachine.config import PREFIX
from timemachine.datamodule import TimeMachine
from timemachine.decoding import continue_text, known_prefix
from timemachine.errors import Diverged, UserError
from timemachine.run.console import print_text, short
from timemachine.run.rows import EPOCH_COLUMNS, Row, add_rows, keep_rows, read, read_numbers, write_rows

NUM_PREDS = 20  # characters of the continuation, as in the book
# Names of the run's own metrics, which `self.log` must not use.
RUN_METRICS = {"loss", "grad_norm", "grad_norm_clipped", "clip_fraction", "chars_per_second", "lr"}
RUN_METRICS |= {  # in summary.json
    "best_epoch", "best_val/perplexity", "best_val/bits_per_byte", "val_step", "clipped_steps", "num_steps_done",
    "largest_grad_norm",
}  # fmt: skip


class Tables(Checkpoint):
    """Write steps.csv, one row per optimizer step, and metrics.csv, one row per epoch and per validation within it.

    metrics.csv also has the metrics of `self.log`; for a metric logged at each step, the last value before the row.
    The loss of a step is the mean over its batches (`accumulate_grad_batches`) and over processes. Losses and norms
    stay on the device until the epoch ends, since reading them would make each step wait for a GPU; then they are
    written and sent to the loggers.

    It is a `Checkpoint` because Lightning calls these after the model's `on_train_epoch_end`, which logs
    train/perplexity. It comes before `Checkpoints`, so an epoch's rows are written before its checkpoint: a run that is
    killed between the two has all rows when it is resumed.

    `print_every_n_epochs`: number of epochs between printed lines; 0 prints none.
    """

    def __init__(self, folder: Path, print_every_n_epochs: int = 0) -> None:
        self.steps_csv, self.metrics_csv = folder / "steps.csv", folder / "metrics.csv"
        self.print_every_n_epochs = print_every_n_epochs
        self._seen: dict[str, Tensor] = {}  # `trainer.logged_metrics` when it was last read
        self._resumed_at: int | None = None  # step of the checkpoint, until rows after it are dropped
        # State of the steps in progress
        self._loss = torch.tensor(math.nan)  # of the batch in progress
        self._losses: list[Tensor] = []  # of the batches since the last step
        self._last_step = 0
        self._unwritten: list[tuple[int, Tensor]] = []  # step; loss and norms (3,)
        # State of the epoch in progress
        self._row: Row = {}  # the row in progress: after a validation, the epoch may end at the same step and add to it
        self._val = math.nan  # validation perplexity of the epoch
        self._rate: Row = {}  # learning rate of the last step
        self._began, self._seconds, self._num_targets = 0.0, 0.0, 0  # a stopwatch; targets in the epoch

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Remember the checkpoint's step. Raises SettingError for a damaged table, before anything changes."""
        for path in (self.steps_csv, self.metrics_csv):
            read(path)
        self._resumed_at = checkpoint["global_step"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop rows after the checkpoint. Not earlier, since until now Lightning may have rejected a setting."""
        self._last_step = trainer.global_step
        self._drop_later_rows(trainer)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop rows after the checkpoint if no epoch was left to train, since `on_train_start` was not called then."""
        self._drop_later_rows(trainer)

    def _drop_later_rows(self, trainer: pl.Trainer) -> None:
        if self._resumed_at is not None and trainer.is_global_zero:
            for path in (self.steps_csv, self.metrics_csv):
                keep_rows(path, self._resumed_at)
        self._resumed_at = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the stopwatch."""
        self._val = math.nan
        self._began, self._seconds, self._num_targets = perf_counter(), 0.0, 0

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Keep the loss: if the gradient is not finite, `on_train_batch_end` is not called."""
        self._loss = loss.detach()

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: torch.optim.Optimizer) -> None:
        """Keep the learning rate of this step: when the epoch ends, schedulers have set the next one."""
        self._rate = {"lr": optimizer.param_groups[-1]["lr"]}  # the first group's may be scaled by `input_lr_factor`

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the loss; add a row if the batch completed a step; read the stopwatch."""
        # `outputs` is empty if `training_step` returned None, which skips the batch.
        self._losses.append(outputs["loss"].detach() if outputs else torch.full_like(self._loss, math.nan))
        if trainer.global_step != self._last_step:  # unchanged after all but the last of accumulated batches
            self._add_step(trainer.global_step, pl_module)
        self._num_targets += batch[1].numel() * trainer.world_size
        self._seconds = perf_counter() - self._began

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start a row, and exclude the validation from the stopwatch."""
        self._began = perf_counter() - self._seconds
        if trainer.state.fn != "fit":  # `trainer.validate`
            self._add_to_last_row(trainer)
        elif not trainer.sanity_checking:
            self._add_epoch(trainer, {})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's rows, and send the numbers computed here to the loggers: `self.log` would take 0.7 ms."""
        steps, row = self._write_steps(trainer), {}
        for name in ("grad_norm", "grad_norm_clipped"):
            row[name] = math.fsum(step[name] for step in steps) / len(steps) if steps else math.nan
        clipped = sum(step["grad_norm"] > step["grad_norm_clipped"] for step in steps)
        num_chars = self._num_targets * chars_per_token(trainer.datamodule)  # type: ignore[attr-defined]
        speed = torch.tensor(num_chars / max(self._seconds, 1e-9), dtype=torch.float64, device=pl_module.device)
        speed = trainer.strategy.reduce(speed, reduce_op="mean")
        logged = {"clip_fraction": clipped / max(len(steps), 1), "chars_per_second": float(speed)} | self._rate
        for logger in trainer.loggers:
            logger.log_metrics(logged | {"epoch": trainer.current_epoch}, step=trainer.global_step - 1)
        self._add_epoch(trainer, row | logged)
        epoch = self._row["epoch"]
        if self.print_every_n_epochs and epoch % self.print_every_n_epochs == 0:  # above the bar, if there is one
            train, val = short(self._row.get("train/perplexity", math.nan), 1), short(self._val, 1)
            text = continuation(pl_module, trainer.datamodule).replace("\n", "↵")  # type: ignore[attr-defined]
            print_text(f"epoch {epoch:<3}  perplexity {train} training, {val} validation   {text.rstrip()}")
        self._write_epoch(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write the row of a validation within the unfinished epoch; if the run diverged, also the epoch's steps.

        The step with the non-finite gradient was not applied, but has a row. The message names the first such step.
        """
        if self._row:
            self._write_epoch(trainer)
        if isinstance(exception, Diverged):
            if exception.what == "the gradient":
                self._losses.append(self._loss)
                self._add_step(trainer.global_step + 1, pl_module)
            self._write_steps(trainer)
            exception.args = (_divergence_message(trainer, pl_module.hparams, exception.what, self.steps_csv),)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the metrics of `trainer.test` to the last row."""
        self._add_to_last_row(trainer)

    def _add_to_last_row(self, trainer: pl.Trainer) -> None:
        metrics = _numbers(self._new_metrics(trainer))
        if trainer.is_global_zero:
            *before, last = read(self.metrics_csv) or [{"epoch": 0, "step": 0}]
            write_rows(self.metrics_csv, EPOCH_COLUMNS, [*before, last | metrics])

    def _new_metrics(self, trainer: pl.Trainer) -> dict[str, Tensor]:
        """Return the metrics that were logged since the last call; `trainer.logged_metrics` also keeps older ones.

        Raises UserError for the name of one of the run's own metrics.
        """
        seen, self._seen = self._seen, dict(trainer.logged_metrics)
        # A metric that was logged again has a new tensor, even if the value is equal.
        new = {k: v for k, v in self._seen.items() if not (k in seen and v.is_set_to(seen[k]))}
        measured = {name for name in EPOCH_COLUMNS if "/" in name} & self._row.keys()  # at this step, by the model
        if taken := (RUN_METRICS | measured) & new.keys():
            name = min(taken)
            rule = "the run already logs a metric with this name"
            raise UserError(f'self.log("{name}", …): {rule}; use another name, such as "own/{name}"')
        return {name: value for name, value in new.items() if name not in ("epoch", "step")}

    def _add_step(self, step: int, model: Any) -> None:
        """Keep the numbers of a step, on the device, for `_write_steps`."""
        losses = torch.stack(self._losses) * model.trainer.accumulate_grad_batches  # by which Lightning divided them
        numbers = torch.stack([losses.double().mean(), model.grad_norm, model.grad_norm_clipped])
        self._unwritten.append((step, numbers))
        self._losses, self._last_step = [], step

    def _write_steps(self, trainer: pl.Trainer) -> list[Row]:
        """Write the rows of the steps since the last call, and return them."""
        if not self._unwritten:
            return []
        steps, numbers = zip(*self._unwritten, strict=True)
        self._unwritten = []
        losses_N, norms_N, clipped_N = torch.stack(numbers, 1)
        losses_N = trainer.strategy.reduce(losses_N, reduce_op="mean")
        rows: list[Row] = []
        for step, loss, norm, clipped in zip(
            steps, losses_N.tolist(), norms_N.tolist(), clipped_N.tolist(), strict=True
        ):
            measured = {"loss": loss, "grad_norm": norm, "grad_norm_clipped": clipped}
            for logger in trainer.loggers:
                logger.log_metrics(measured, step=step - 1)  # loggers count from 0
            rows.append({"epoch": trainer.current_epoch + 1, "step": step} | measured)
        if trainer.is_global_zero:
            add_rows(self.steps_csv, rows)
        return rows

    def _add_epoch(self, trainer: pl.Trainer, measured: Row) -> None:
        """Add numbers, and the metrics logged meanwhile, to the row in progress; start a new row at another step."""
        if self._row and self._row["step"] != trainer.global_step:
            self._write_epoch(trainer)
        logged = _numbers(self._new_metrics(trainer))
        self._row |= {"epoch": trainer.current_epoch + 1, "step": trainer.global_step} | measured | logged
        self._val = logged.get("val/perplexity", self._val)

    def _write_epoch(self, trainer: pl.Trainer) -> None:
        row, self._row = self._row, {}  # cleared first, or `on_exception` would write it again after a failure
        if trainer.is_global_zero:
            add_rows(self.metrics_csv, [row])


def continuation(model: Any, data: TimeMachine) -> str:
    """Return the book's prefix with its greedy continuation, the same as from `predict`; uses no random numbers."""
    return continue_text(model, data.vocab, known_prefix(PREFIX, data), NUM_PREDS)[0]


def chars_per_token(data: Any) -> float:
    """Return the mean number of characters per token; 1 for a user's own data."""
    return len(data.corpus.characters) / len(data.tokens_N) if isinstance(data, TimeMachine) else 1


def _numbers(metrics: dict[str, Tensor]) -> Row:
    return {name: float(value) for name, value in metrics.items()}


def _divergence_message(trainer: pl.Trainer, network: Any, what: str, table: Path) -> str:
    """Return the message of a run that diverged. `network`: its hyperparameters; `table`: its steps.csv.

    On a GPU no gradient is checked during the epoch, so the first one that was not finite is read from the table.
    """
    step, last_norm = trainer.global_step, math.nan
    for row in read_numbers(table):
        if math.isfinite(row["grad_norm"]):
            last_norm = row["grad_norm"]
        elif getattr(trainer.precision_plugin, "scaler", None) is None:  # 16-mixed on a GPU skips these steps
            step, what = int(row["step"]), "the gradient"
            break
    theta = trainer.gradient_clip_val
    return (
        f"diverged in epoch {trainer.current_epoch + 1}, step {step}: {what} is not finite (last finite gradient norm "
        f"{last_norm:.4g}); use trainer.gradient_clip_val={theta / 10 if theta else 1:g} (now {theta or 'none'}), "
        f"or a smaller model.lr (now {network['lr']:g})"
    )

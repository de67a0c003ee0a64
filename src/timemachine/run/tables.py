"""steps.csv and metrics.csv, written by two callbacks while a run trains."""

import math
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from timemachine.errors import Diverged, UserError
from timemachine.run.console import short
from timemachine.run.rows import EPOCH_COLUMNS, Row, add_rows, keep_rows, read, read_numbers, write_rows

OURS = {"loss", "grad_norm", "grad_norm_clipped", "clip_fraction", "chars_per_second", "lr"}  # not for `self.log`


class StepTable(Callback):
    """Write steps.csv, one row per optimizer step: loss, gradient norms, and what `self.log(…, on_step=True)` logs.

    The loss is the mean over the step's batches (`accumulate_grad_batches`) and over processes. Numbers stay on the
    device until the epoch ends; then the rows are written, and the loggers get loss and norms. What a model logs in its
    own `on_train_batch_end`, which Lightning calls after all callbacks, is in metrics.csv, of the last batch.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "steps.csv"
        self.rows: list[Row] = []  # of the epoch that ended last
        self._steps: list[tuple[int, Tensor, dict[str, Tensor]]] = []  # step; loss and norms (3,); logged metrics
        self._loss = torch.tensor(math.nan)  # of the batch in progress
        self._losses: list[Tensor] = []  # of the batches since the last step
        self._last_step = 0
        self._model_logs_last = False
        self._seen: dict[str, Tensor] = {}  # logged metrics that were read before

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue after the checkpoint's step."""
        self._last_step = trainer.global_step
        self._model_logs_last = is_overridden("on_train_batch_end", pl_module)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Ignore what the model logged after `on_train_batch_end` of this callback: it is not of this step."""
        if self._model_logs_last:  # asking takes 0.02 ms
            self.new_metrics(trainer)

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Keep the loss: if the gradient is not finite, `on_train_batch_end` is not called."""
        self._loss = loss.detach()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keep the loss; add a row if the batch completed a step."""
        self._losses.append(outputs["loss"].detach() if outputs else torch.full_like(self._loss, math.nan))
        logged = self.new_metrics(trainer)
        if trainer.global_step != self._last_step:
            self._add(trainer.global_step, pl_module, logged)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's rows."""
        self._write(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write the steps that led to divergence, also the one that was not applied, and say where it began."""
        if isinstance(exception, Diverged):
            if exception.what == "the gradient":
                self._losses.append(self._loss)
                self._add(trainer.global_step + 1, pl_module, {})
            self._write(trainer)
            steps = read_numbers(self.path)
            exception.args = (_divergence_message(trainer, pl_module.hparams, exception.what, steps),)

    def new_metrics(self, trainer: pl.Trainer) -> dict[str, Tensor]:
        """Return the metrics that were logged since the last call; `trainer.logged_metrics` keeps older ones too.

        Raises UserError for a name that the run logs itself.
        """
        seen, self._seen = self._seen, dict(trainer.logged_metrics)
        new = {k: v for k, v in self._seen.items() if not (k in seen and v.is_set_to(seen[k]))}  # another storage
        if taken := OURS & new.keys():
            name = min(taken)
            rule = "the run logs a metric of that name itself"
            raise UserError(f'self.log("{name}", …): {rule}; use another name, such as "own/{name}"')
        return {name: value for name, value in new.items() if name not in ("epoch", "step")}

    def _add(self, step: int, model: Any, logged: dict[str, Tensor]) -> None:
        losses = torch.stack(self._losses) * model.trainer.accumulate_grad_batches  # by which Lightning divided them
        numbers = torch.stack([losses.double().mean(), model.grad_norm, model.grad_norm_clipped])
        self._steps.append((step, numbers, logged))
        self._losses, self._last_step = [], step

    def _write(self, trainer: pl.Trainer) -> None:
        self.rows = []
        if not self._steps:
            return
        steps, numbers, logged = zip(*self._steps, strict=True)
        self._steps = []
        losses_N, norms_N, clipped_N = torch.stack(numbers, 1)
        losses_N = trainer.strategy.reduce(losses_N, reduce_op="mean")
        columns = losses_N.tolist(), norms_N.tolist(), clipped_N.tolist()
        for step, loss, norm, clipped, others in zip(steps, *columns, logged, strict=True):
            ours = {"loss": loss, "grad_norm": norm, "grad_norm_clipped": clipped}
            for logger in trainer.loggers:
                logger.log_metrics(ours, step=step - 1)  # loggers count from 0
            self.rows.append({"epoch": trainer.current_epoch + 1, "step": step} | ours | _numbers(others))
        if trainer.is_global_zero:
            add_rows(self.path, self.rows)


class EpochTable(Checkpoint):
    """Write metrics.csv, one row per epoch and one per validation within it, with all metrics that were logged.

    It is a `Checkpoint` because Lightning calls these after the model's `on_train_epoch_end`, which logs
    train/perplexity. It stands before `Checkpoints`, from which a run is resumed: an epoch's row is written before
    its checkpoint, so a run that is killed between the two has all rows when it is resumed.

    `prints_lines`: print a line per epoch, where there is no progress bar.
    """

    def __init__(self, folder: Path, steps: StepTable, prints_lines: bool = False) -> None:
        self.path, self.steps, self.prints_lines = folder / "metrics.csv", steps, prints_lines
        self._row: Row = {}  # of a validation; not written yet, as the epoch may end at the same step
        self._val = math.nan  # validation perplexity of the epoch
        self._rate: Row = {}  # of the last step
        self._began, self._seconds, self._num_chars = 0.0, 0.0, 0  # a stopwatch; targets in the epoch
        self._resumed_at: int | None = None  # step of the checkpoint, until rows after it are dropped

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Note the checkpoint's step. Raises SettingError for a damaged table, before anything changes."""
        for path in (self.steps.path, self.path):
            read(path)
        self._resumed_at = checkpoint["global_step"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop rows after the checkpoint; not before, as Lightning may still refuse a setting."""
        if self._resumed_at is not None and trainer.is_global_zero:
            for path in (self.steps.path, self.path):
                keep_rows(path, self._resumed_at)
        self._resumed_at = None

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Drop them if no epoch was left to train, so that training did not start."""
        self.on_train_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the stopwatch."""
        self._val = math.nan
        self._began, self._seconds, self._num_chars = perf_counter(), 0.0, 0

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: torch.optim.Optimizer) -> None:
        """Keep the rate of this step: when the epoch ends, schedulers have set the next one."""
        self._rate = {"lr": optimizer.param_groups[-1]["lr"]}  # the first group may have `input_lr_factor`

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Read the stopwatch."""
        self._num_chars += batch[1].numel() * trainer.world_size
        self._seconds = perf_counter() - self._began

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a row, and leave the validation out of the stopwatch."""
        self._began = perf_counter() - self._seconds
        if trainer.state.fn != "fit":
            self.on_test_end(trainer, pl_module)
        elif not trainer.sanity_checking:
            self._add(trainer, {})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's row, and give the loggers what `self.log` has not: `self.log` takes 0.7 ms an epoch."""
        rows, row = self.steps.rows, {}
        for name in ("grad_norm", "grad_norm_clipped"):
            row[name] = math.fsum(step[name] for step in rows) / len(rows) if rows else math.nan
        clipped = sum(step["grad_norm"] > step["grad_norm_clipped"] for step in rows)
        speed = torch.tensor(self._num_chars / max(self._seconds, 1e-9), dtype=torch.float64, device=pl_module.device)
        speed = trainer.strategy.reduce(speed, reduce_op="mean")
        ours = {"clip_fraction": clipped / max(len(rows), 1), "chars_per_second": float(speed)} | self._rate
        for logger in trainer.loggers:
            logger.log_metrics(ours | {"epoch": trainer.current_epoch}, step=trainer.global_step - 1)
        self._add(trainer, row | ours)
        if self.prints_lines:
            train = short(self._row.get("train/perplexity", math.nan))
            print(f"epoch {self._row['epoch']:>4}  train {train:>8}  val {short(self._val):>8}", flush=True)
        self._write(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write the row of a validation within the epoch that did not end."""
        if self._row:
            self._write(trainer)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the metrics to the last row."""
        metrics = _numbers(self.steps.new_metrics(trainer))
        if trainer.is_global_zero:
            *before, last = read(self.path) or [{"epoch": 0, "step": 0}]
            write_rows(self.path, EPOCH_COLUMNS, [*before, last | metrics])

    def _add(self, trainer: pl.Trainer, ours: Row) -> None:
        if self._row and self._row["step"] != trainer.global_step:
            self._write(trainer)
        logged = _numbers(self.steps.new_metrics(trainer))
        self._row |= {"epoch": trainer.current_epoch + 1, "step": trainer.global_step} | ours | logged
        self._val = logged.get("val/perplexity", self._val)

    def _write(self, trainer: pl.Trainer) -> None:
        if trainer.is_global_zero:
            add_rows(self.path, [self._row])
        self._row = {}


def _numbers(metrics: dict[str, Tensor]) -> Row:
    return {name: float(value) for name, value in metrics.items()}


def _divergence_message(trainer: pl.Trainer, network: Any, what: str, steps: list[dict[str, float]]) -> str:
    """Return the message of a run that diverged. `network`: its hyperparameters; `steps`: the rows of steps.csv."""
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

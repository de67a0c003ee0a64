"""Record the Trainer's measurements in `Run`: the tables, the final numbers and the status."""

import math
from collections.abc import Mapping
from time import perf_counter
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import BatchSizeFinder, Callback, LearningRateFinder
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor

from timemachine.errors import REMEDY, Diverged, SettingError
from timemachine.run.checkpoints import disable_requeue, keep_in_folder
from timemachine.run.run import METRIC, Run
from timemachine.run.tables import COLUMNS, Row

TUNERS = (LearningRateFinder, BatchSizeFinder)
WORSE_THAN_GUESSING = 1.05  # perplexity over that of guessing, with which a run's only validation counts as diverged
STEP_COLUMNS = COLUMNS["steps.csv"]


class Recorder(Callback):
    """Record a run: a row of steps.csv per optimizer step, a row of metrics.csv per validation and epoch, its results.

    train.py adds it to the callbacks of conf/. Lightning's CSVLogger writes after the checkpoint, and puts the training
    and the validation of an epoch into separate rows.

    The loss of a step is the mean over its batches (`accumulate_grad_batches`) and over processes. Numbers stay on the
    device until the epoch ends, since reading them would make each step wait for a GPU. Both tables up to a checkpoint
    are part of it, and are written again when the run is resumed. `probes`: by their names, see `study.probes`.
    """

    def __init__(self, run: Run, probes: Mapping[str, Any]) -> None:
        self.run, self.probes = run, probes
        self.curves: list[Row] = []  # of the checkpoint that is resumed
        self.steps: list[Tensor] = []  # of each epoch (steps, 5): the columns of steps.csv
        self.kernel = "autograd"
        self.loss, self.losses = torch.tensor(math.nan), list[Tensor]()  # of this batch; of the batches of this step
        self.pending: list[tuple[int, Tensor]] = []  # of this epoch: step; loss and norms (3,)
        self.last_step = 0
        self.row: Row = {}  # the last row of metrics.csv, until it is written
        self.ended: int | None = None  # an epoch, counted from 1, that has ended and whose rows are pending
        self.rate = math.nan  # learning rate of the last step
        self.began, self.seconds, self.num_targets = 0.0, 0.0, 0  # a stopwatch; targets read in the epoch

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Raise SettingError for a strategy with which Lightning could not resume safely; disable parts of Lightning.

        FSDP and DeepSpeed load a checkpoint without `weights_only`, and it may be somebody else's; these models need
        neither. Disabled are the progress bar of a job, since the sweep prints a line per job, Lightning's way to
        requeue a job of Slurm, and tuners in a resumed run, which would restore their own checkpoint, at step 0.
        """
        if is_overridden("load_checkpoint", trainer.strategy, Strategy):
            name, rule = type(trainer.strategy).__name__, "loads checkpoints without weights_only; use auto or ddp"
            raise SettingError(f"trainer.strategy: {name} {rule}")
        if self.run.is_job and (bar := trainer.progress_bar_callback):
            bar.disable()
        disable_requeue(trainer)
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        if self.run.completed_epochs and (tuners := [each for each in callbacks if isinstance(each, TUNERS)]):
            trainer.callbacks = [each for each in callbacks if each not in tuners]  # type: ignore[attr-defined]
            if self.run.prints:
                names = ", ".join(type(each).__name__ for each in tuners)
                print(f"without {names}: a resumed run keeps its learning rate and batch size", flush=True)

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: Any) -> None:
        """Restore the tables, and keep the paths in the states of ModelCheckpoint within the run's folder.

        Here, since train.py always adds this callback, and Lightning calls this hook of all callbacks before it
        restores the state of any.
        """
        keep_in_folder(trainer, checkpoint)
        tables = checkpoint["tables"]
        self.curves, self.steps, self.kernel = tables["epochs"], [tables["steps"]], tables["kernel"]

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: Any) -> None:
        """Write the epoch, and add the tables to the checkpoint."""
        self._write_epoch(trainer)
        steps = torch.cat(self.steps) if self.steps else torch.zeros(0, len(STEP_COLUMNS), dtype=torch.float64)
        checkpoint["tables"] = {"epochs": self.run.curves, "steps": steps, "kernel": self.kernel}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the beginning: until here, Lightning may reject a setting of a resumed run."""
        self.last_step = trainer.global_step
        self._begin(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the previous epoch, forget its metrics, and start the stopwatch."""
        self.kernel = getattr(pl_module, "trained_with", self.kernel)  # the model notes it after `on_train_start`
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

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the last epoch."""
        self._write_epoch(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write the measurements; if the run diverged, also the step that was not taken."""
        if not self.run.has_begun:
            return
        if isinstance(exception, Diverged):
            if exception.what == "the gradient":
                self.losses.append(self.loss)
                self._add_step(trainer.global_step + 1, pl_module)
            self._write_steps(trainer, trainer.current_epoch + 1)
        self._write_row()
        self.run.summary["metrics"] = self.final_numbers()

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the metrics of the test to the last row."""
        self._begin(trainer)
        if not self.run.curves:  # nothing was trained
            self.run.add_epoch({"epoch": trainer.current_epoch, "step": trainer.global_step})
        self.run.add_to_last_epoch(_take_logged(trainer))

    def finish(self, trainer: Any) -> None:
        """Record the final numbers, the measurements of the probes, and whether the run has diverged.

        `trainer.fast_dev_run` has no results.
        """
        run, model, data = self.run, trainer.lightning_module, trainer.datamodule
        self._begin(trainer)
        if trainer.fast_dev_run:
            run.summary |= {"status": "completed", "message": "trainer.fast_dev_run: completed, without results"}
            return
        run.summary |= {"metrics": self.final_numbers(), "kernel": self.kernel}
        run.save()  # before the probes, which may take minutes or fail
        if run.writes:
            run.summary["probes"] = {name: probe.measure(model, data) for name, probe in self.probes.items()}
        run.summary["status"], run.summary["message"] = self.outcome(len(data.vocab))

    def final_numbers(self) -> dict[str, int | float]:
        """Return the numbers of the last epoch and of the best validation, and how often the gradient was clipped."""
        rows, metric = self.run.curves, self.run.metric
        if not rows:
            return {}
        numbers: Row = {}
        for row in rows:  # several of the last epoch if there were validations within it
            numbers |= row if row["epoch"] == rows[-1]["epoch"] else {}
        numbers = {name: value for name, value in numbers.items() if not math.isnan(value) or name == metric}
        validated = [row for row in rows if not math.isnan(row.get(metric, math.nan))]
        if validated:
            best = min(validated, key=lambda row: row[metric])  # the first of equal ones, as in best.ckpt
            numbers |= {f"best_{metric}": best[metric], "best_epoch": best["epoch"]}
            if metric != "val/bits_per_byte" and "val/bits_per_byte" in best:
                numbers["val/bits_per_byte_at_best_epoch"] = best["val/bits_per_byte"]
        if self.steps:
            steps_N5 = torch.cat(self.steps)
            norms_N, clipped_N = steps_N5[:, 3], steps_N5[:, 4]
            numbers["num_steps_done"] = len(steps_N5)
            if not norms_N.isnan().all():  # a user's own model has no norms
                numbers["clipped_steps"] = int((norms_N > clipped_N).sum())
                numbers["largest_grad_norm"] = norms_N.nan_to_num(0, posinf=math.inf).max().item()
        return numbers

    def outcome(self, guessing: int) -> tuple[str, str | None]:
        """Return the status and the message of a run that trained to its end. `guessing`: perplexity of guessing."""
        metrics, metric = self.run.metrics, self.run.metric
        if not math.isfinite(metrics.get("train/perplexity", 0.0)):
            return "diverged", f"diverged: the training perplexity is not finite; {REMEDY}"
        if not math.isfinite(metrics.get(metric, 0.0)):
            return "diverged", f"diverged: {metric} is not finite"
        if (val := metrics.get(METRIC, 0.0)) > guessing:
            first, *more = (row[METRIC] for row in self.run.curves if METRIC in row)
            if val > (first if more else WORSE_THAN_GUESSING * guessing):
                rule = f"worse than guessing among {guessing}; {REMEDY}, or fewer epochs"
                return "diverged", f"diverged: ends with a validation perplexity of {val:.4g}, {rule}"
            return "completed", f"has learned nothing (guessing has {guessing}): train longer, or with a larger rate"
        # Such as a run with `limit_val_batches=0`: completed, but a search cannot use it.
        names = ("train/perplexity", metric) if metric == METRIC else (metric,)  # a user's own model has others
        missing = [name for name in names if name not in metrics]
        return "completed", f"the last epoch has no {' and no '.join(missing)}" if missing else None

    def _begin(self, trainer: Any) -> None:
        """Begin, once; a resumed run that has nothing left to train does so after the fit."""
        if not self.run.has_begun:
            rows = [row for steps_N5 in self.steps for row in _step_rows(steps_N5)]
            self.run.begin(trainer.lightning_module, trainer.datamodule, self.curves, rows)

    def _add_step(self, step: int, model: Any) -> None:
        losses = torch.stack(self.losses) * model.trainer.accumulate_grad_batches  # by which Lightning divided them
        if hasattr(model, "grad_norm"):
            norms = [model.grad_norm, model.grad_norm_clipped]
        else:  # a user's own model
            norms = [losses.new_tensor(math.nan, dtype=torch.float64)] * 2
        self.pending.append((step, torch.stack([losses.double().mean(), *norms])))
        self.losses, self.last_step = [], step

    def _add_metrics(self, trainer: pl.Trainer, epoch: int, measured: Row) -> None:
        """Add numbers, and what `self.log` has logged in this epoch, to the last row, or to a new one at a new step."""
        if self.row and self.row["step"] != trainer.global_step:
            self._write_row()
        self.row |= {"epoch": epoch, "step": trainer.global_step} | measured | _take_logged(trainer)

    def _write_epoch(self, trainer: pl.Trainer) -> None:
        """Write the rows of an epoch that has ended, once; give the loggers the numbers that are computed here.

        Called before each checkpoint, when the next epoch starts, and when the training ends.
        """
        # Not in `on_train_epoch_end`: Lightning computes the training perplexity after this hook.
        if (epoch := self.ended) is None:
            return
        self.ended = None
        steps_N5 = self._write_steps(trainer, epoch)
        count = max(len(steps_N5), 1)
        norms = {
            name: math.fsum(steps_N5[:, 3 + place].tolist()) / count for place, name in enumerate(STEP_COLUMNS[3:])
        }
        is_known = not math.isnan(norms["grad_norm"])  # not of a user-defined model
        clipped = int((steps_N5[:, 3] > steps_N5[:, 4]).sum()) if is_known else math.nan
        # In characters, so that models of characters and of BPE tokens compare.
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        num_chars = self.num_targets * (len(data.corpus.characters) / len(data.tokens_N))
        speed = torch.tensor(
            num_chars / max(self.seconds, 1e-9), dtype=torch.float64, device=trainer.strategy.root_device
        )
        speed = trainer.strategy.reduce(speed, reduce_op="mean")  # the processes' stopwatches differ
        others = {"clip_fraction": clipped / count, "chars_per_second": float(speed), "lr": self.rate}
        for logger in trainer.loggers:
            logger.log_metrics(others | {"epoch": epoch - 1}, step=trainer.global_step - 1)  # they count from 0
        self._add_metrics(trainer, epoch, norms | others)
        self._write_row()

    def _write_steps(self, trainer: pl.Trainer, epoch: int) -> Tensor:
        """Append the steps of an epoch to steps.csv, and return them (steps, 5); give the loggers each n-th one."""
        if not self.pending:
            return torch.zeros(0, len(STEP_COLUMNS), dtype=torch.float64)
        losses_N, *norms_N = torch.stack([numbers for _, numbers in self.pending], 1)
        losses_N = trainer.strategy.reduce(losses_N, reduce_op="mean")
        steps_N = torch.tensor([step for step, _ in self.pending], dtype=torch.float64)
        columns = (torch.full_like(steps_N, epoch), steps_N, losses_N.cpu(), *(norm_N.cpu() for norm_N in norms_N))
        steps_N5 = torch.stack(columns, 1)
        self.pending = []
        self.steps.append(steps_N5)
        rows = _step_rows(steps_N5)
        self.run.add_steps(rows)
        every_n: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        for row in rows if trainer.loggers else ():
            if row["step"] % every_n == 0:
                for logger in trainer.loggers:
                    logger.log_metrics({name: row[name] for name in STEP_COLUMNS[2:]}, step=row["step"] - 1)
        return steps_N5

    def _write_row(self) -> None:
        if self.row:
            self.run.add_epoch(self.row)
            self.row = {}


class ValidateLastStep(Callback):
    """Validate the model after its last step at any interval of validations: the final numbers belong to this step."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let Lightning validate this epoch if it is the last one."""
        if trainer.check_val_every_n_epoch is not None and trainer.current_epoch + 1 == trainer.max_epochs:
            trainer.check_val_every_n_epoch = 1

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Let Lightning validate after this batch if it is the last one of the last epoch."""
        if trainer.current_epoch + 1 == trainer.max_epochs and batch_idx + 1 == trainer.num_training_batches:
            trainer.val_check_batch = 1

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: torch.optim.Optimizer) -> None:
        """Let Lightning validate after this step if it is the last one of `max_steps`."""
        if trainer.global_step + 1 == trainer.max_steps:
            trainer.val_check_batch = 1
            if trainer.check_val_every_n_epoch is not None:
                trainer.check_val_every_n_epoch = 1


def _step_rows(steps_N5: Tensor) -> list[Row]:
    """Return rows of steps.csv."""
    return [
        {"epoch": int(epoch), "step": int(step)} | dict(zip(STEP_COLUMNS[2:], numbers, strict=True))
        for epoch, step, *numbers in steps_N5.tolist()
    ]


def _take_logged(trainer: pl.Trainer) -> Row:
    """Return the metrics of `self.log` since the last call.

    Lightning 2.6 keeps the metrics of earlier validations; emptying this dict, which is its own, is not documented.
    """
    logged = trainer.logged_metrics
    row = {name: float(value) for name, value in logged.items() if name not in ("epoch", "step")}
    logged.clear()
    return row

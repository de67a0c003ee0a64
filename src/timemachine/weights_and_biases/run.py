"""Log a run to Weights & Biases, in addition to its files: a subclass of Lightning's `WandbLogger`."""

import functools
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from secrets import token_hex
from typing import Any

import lightning.pytorch as pl
import wandb
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from pydantic import ValidationError

from timemachine.config import require
from timemachine.decoding import continue_text, known_prefix
from timemachine.errors import SettingError, one_line
from timemachine.run.files import relative_path
from timemachine.run.jobs import upload_line
from timemachine.run.record import Record, status_and_message
from timemachine.weights_and_biases import CHANGES, FIGURE, PROJECT, SAMPLES, is_wanted

PREFIXES = ("it has", "time traveller", "the")  # of the table of samples
NUM_PREDS = 60  # characters after each prefix
ALPHA = 2.0  # of the samples; greedy decoding alone ends in a loop
# Plotted against the epoch; other metrics against Lightning's `trainer/global_step`.
EPOCH_METRICS = (
    "train/perplexity", "val/perplexity", "val/bits_per_byte", "test/perplexity", "test/bits_per_byte", "clip_fraction",
    "chars_per_second", "lr",
)  # fmt: skip
# Values of W&B's environment variables, unless the user has set them. The timeouts are the seconds that a run waits for
# the server: at its start, at its end, and for each table and checkpoint. Rows do not wait: W&B's process sends them.
VARIABLES = {
    "WANDB_SILENT": "true", "WANDB_CONSOLE": "off", "WANDB_X_DISABLE_STATS": "true", "WANDB_HTTP_TIMEOUT": "4",
    "WANDB_INIT_TIMEOUT": "15", "WANDB_FINISH_TIMEOUT": "10", "WANDB_FINISH_TIMEOUT_RAISES": "true",
}  # fmt: skip


def _report_first_failure(method: Callable[..., None]) -> Callable[..., None]:
    """Make a method report W&B's first failure in one line. Training continues, and later rows may still arrive."""

    @functools.wraps(method)
    def call(logger: "OptionalWandbLogger", *args: Any, **kwargs: Any) -> None:
        try:
            method(logger, *args, **kwargs)
        except Exception as error:  # of the network or the server: wandb raises many types
            if not logger.has_failed:
                later = f"wandb sync --include-online {shlex.quote(relative_path(Path(logger.run.dir).parent))}"
                print(f"W&B           failed ({one_line(error, 150)}); after the run, use {later}", file=sys.stderr)
            logger.has_failed = True

    return call


class OptionalWandbLogger(WandbLogger):
    """Lightning's logger for programs that work without W&B: a run is offline without an API key or a server."""

    has_failed = False

    def __init__(self, arguments: Mapping[str, Any], **defaults: Any) -> None:
        """Start the run in W&B with arguments of Lightning's class and of `wandb.init`; None means W&B's default.

        `defaults` apply unless an argument or a variable WANDB_* is set. Raise SettingError for rejected arguments.
        """
        for variable, value in VARIABLES.items():
            os.environ.setdefault(variable, value)
        given = {name: value for name, value in arguments.items() if value is not None}
        for name, default in (defaults | {"project": PROJECT}).items():
            if {"group": "WANDB_RUN_GROUP"}.get(name, f"WANDB_{name.upper()}") not in os.environ:
                given.setdefault(name, default)
        settings = given.get("settings")
        if isinstance(settings, Mapping) and "api_key" in settings:  # it would appear in the run's files
            raise SettingError("logger.wandb.settings.api_key: not supported; use WANDB_API_KEY or wandb login")
        mode = "offline" if given.pop("offline", False) else given.pop("mode", None)
        try:
            known = wandb.setup().settings.mode
            if mode is None and known == "online" and not wandb.login(prompt=False, verify=False):
                mode = "offline"  # wandb.init would ask for a key
            self._begin(given, mode)
        except (TypeError, ValidationError, wandb.errors.UsageError) as error:
            wandb.teardown()  # forgets the rejected settings
            raise SettingError(f"logger.wandb.* or an environment variable WANDB_*: {one_line(error)}") from error
        except Exception as error:
            print(f"W&B           failed ({one_line(error, 150)}); the run is logged offline", file=sys.stderr)
            self._begin(given, "offline")

    def _begin(self, given: dict[str, Any], mode: str | None) -> None:
        if wandb.run is not None:  # left by a failed job; Lightning would log into it
            wandb.teardown()
        super().__init__(**{"save_dir": None} | given, mode=mode)  # Lightning's `save_dir` would hide `dir`
        self.run: Any = self.experiment  # a dummy in all processes but the first

    log_metrics = _report_first_failure(WandbLogger.log_metrics)
    after_save_checkpoint = _report_first_failure(WandbLogger.after_save_checkpoint)
    finalize = _report_first_failure(WandbLogger.finalize)  # uploads checkpoints

    @_report_first_failure
    def finish(self, status: str) -> None:
        """Finish the run in W&B."""
        self.run.finish(exit_code=0 if status == "completed" else 1)


class WandbRun(OptionalWandbLogger, Callback, AbstractContextManager[Any]):
    """Copies metrics.csv, against `epoch`, and steps.csv, against `trainer/global_step`, to W&B; both count from 1.

    As a callback it logs a table of continuations of `PREFIXES`: greedy, and sampled from P^`ALPHA`, with the same
    random numbers for a prefix each time. As a context manager it finishes the run with the record's status.
    """

    def __init__(self, record: Record, *, sample_every_n_epochs: int = 10, **arguments: Any) -> None:
        """Start the run in W&B, or resume it with a resumed run. `arguments`: as in `OptionalWandbLogger`."""
        is_count = isinstance(sample_every_n_epochs, int) and sample_every_n_epochs > 0
        require(is_count, "logger.wandb.sample_every_n_epochs", sample_every_n_epochs, "must be a positive integer", 10)
        self.record, self.sample_every_n_epochs = record, sample_every_n_epochs
        self._samples: list[list[Any]] = []
        self._offset = 1  # from Lightning's epochs and steps to ours
        summary, sweep = record.summary, record.role.sweep
        typed = [override.lstrip("+~") for override in record.overrides]
        changes = [override for override in typed if not override.startswith(("exercise=", "logger", "resume="))]
        name = [summary["corpus"]["name"], *changes]
        super().__init__(
            arguments,
            dir=record.folder,
            # `wandb agent` sets WANDB_RUN_ID, which the jobs of our sweep must not share.
            id=summary.get("wandb") or (token_hex(4) if sweep else None),
            name=" ".join(name),
            group=sweep,
            job_type=record.exercise if record.exercise != "none" else "train",
        )
        self.is_on = record.role.writes and not self.run.disabled
        for metric in EPOCH_METRICS:
            self.run.define_metric(metric, step_metric="epoch")
        except_seed = " ".join(part for part in name if not part.startswith("seed="))
        self.log_hyperparams({CHANGES: except_seed, "corpus": summary["corpus"], "git": summary["git"]})
        if self.is_on:
            record.update(wandb=self.run.id, wandb_group=self.run.group or None)
            if record.role.prints and self.run.url:
                print(f"W&B           {self.run.url}", flush=True)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Count from 1: while fitting, Lightning counts epochs and steps from 0; afterwards it passes their number."""
        self._offset = int(stage == "fit")

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics, with the epoch and the step counted from 1."""
        row = dict(metrics)
        if "epoch" in row:
            row["epoch"] += self._offset
        super().log_metrics(row, None if step is None else step + self._offset)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Log the table again after every n-th epoch and the last epoch: W&B shows the latest table."""
        epoch = trainer.current_epoch + 1
        is_due = epoch % self.sample_every_n_epochs == 0 or epoch == trainer.max_epochs
        if not (is_due and self.is_on) or self.has_failed:  # after a failure, each table would wait for the server
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        for seed, prefix in enumerate(known_prefix(text, data) for text in PREFIXES):
            texts = [continue_text(pl_module, data.vocab, prefix, NUM_PREDS, it, seed=seed)[0] for it in (None, ALPHA)]
            self._samples.append([epoch, prefix, *(text.removeprefix(prefix) for text in texts)])
        columns = ["epoch", "prefix", "greedy", f"alpha = {ALPHA:g}"]
        self.log_table(SAMPLES, columns, list(self._samples), step=trainer.global_step - 1)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Finish the run in W&B; if it is offline, print the command to upload it."""
        if not self.is_on:
            return
        summary = self.record.summary
        status, message = status_and_message(error) if error else (summary["status"], summary["message"])
        self._log_end(status, message)
        self.finish(status)
        line = upload_line(Path(self.run.dir).parents[1])
        # A sweep prints one line for all its jobs.
        if line and status != "failed" and self.record.role.sweep is None and is_wanted(self.record.overrides):
            print(line, flush=True)

    @_report_first_failure
    def _log_end(self, status: str, message: str | None) -> None:
        """Log the final metrics and the figure."""
        self.run.summary.update(self.record.summary["metrics"] | {"status": status, "message": message})
        if (figure := self.record.folder / "perplexity.png").exists():
            self.run.log({FIGURE: wandb.Image(str(figure))})

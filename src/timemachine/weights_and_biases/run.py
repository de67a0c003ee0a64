"""A run in Weights & Biases beside its files: Lightning's `WandbLogger`, with what we add.

A row costs the training 0.15 ms; with its rows and ten tables the book's run takes a tenth more processor time than
with logger=csv. A table and an artifact ask the server, and one that has gone costs 4 seconds for each: a table during
training, a table and the model at the end. Whatever fails is one line, and never the end of the run.
"""

import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from time import perf_counter
from typing import Any, Self

import lightning.pytorch as pl
import wandb
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from pydantic import ValidationError

from timemachine.config import REPOSITORY, require
from timemachine.decoding import continue_text, known_prefix
from timemachine.errors import SettingError, UserError, one_line
from timemachine.run.jobs import upload_line
from timemachine.run.record import Record, outcome
from timemachine.weights_and_biases import CHANGES, FIGURE, GAP, PAGE, PROJECT, SAMPLES, STEP

PREFIXES = ("it has", "time traveller", "the")  # of the table of samples
NUM_PREDS = 60  # characters that follow each
OF_AN_EPOCH = ("clip_fraction", "chars_per_second", "lr", SAMPLES)  # and perplexities
ALPHA = 2.0  # of the samples beside greedy decoding, which ends in a loop
# W&B's variables, and their values here unless the user has set them. Times in seconds.
VARIABLES = {
    "WANDB_SILENT": "true", "WANDB_CONSOLE": "off", "WANDB_X_DISABLE_STATS": "true", "WANDB_GIT_ROOT": str(REPOSITORY),
    "WANDB_HTTP_TIMEOUT": "4", "WANDB_INIT_TIMEOUT": "15", "WANDB_FINISH_TIMEOUT": "10",
}  # fmt: skip
UPLOADS = ("log_model", "checkpoint_name", "add_file_policy")  # WandbLogger's
TIMEOUTS = ("init_timeout", "finish_timeout")  # of W&B's settings


class WandbRun(WandbLogger, Callback):
    """W&B's copy of metrics.csv, against `epoch`, and steps.csv, against `trainer/global_step`; both count from 1.

    As a callback it adds a table of how the model continues `PREFIXES`: greedily, and drawn from P^`ALPHA`, each prefix
    with its own random numbers, the same each time. Other callbacks may log images and numbers of their own, as with
    Lightning's class. As a context manager it ends the run in W&B with the record's status, or the exception's.
    """

    def __init__(self, record: Record, *, sample_every_n_epochs: int = 10, **arguments: Any) -> None:
        """Begin the run in W&B, or resume that of a resumed run; of several processes the first one logs.

        `arguments`: those of `begin_run`, and `log_model`, `checkpoint_name`, `add_file_policy` of Lightning's class.
        """
        is_count = isinstance(sample_every_n_epochs, int) and sample_every_n_epochs > 0
        require(is_count, "logger.wandb.sample_every_n_epochs", sample_every_n_epochs, "must be a positive integer", 10)
        self.record, self.sample_every_n_epochs = record, sample_every_n_epochs
        uploads = {name: arguments.pop(name) for name in UPLOADS if name in arguments}
        self._uploads = bool(uploads.get("log_model"))
        summary = record.summary
        typed = [override.lstrip("+~") for override in record.overrides]
        changes = [override for override in typed if not override.startswith(("exercise=", "logger", "resume="))]
        name = [summary["corpus"]["name"], *changes]
        except_seed = " ".join(part for part in name if not part.startswith("seed="))
        self.run = run = begin_run(
            arguments if record.role.writes else {"mode": "disabled"},
            record.folder,
            summary["settings"] | {CHANGES: except_seed, "corpus": summary["corpus"], "git": summary["git"]},
            # WANDB_RUN_ID is that of `wandb agent`; the jobs of a sweep of ours must not share it
            run_id=summary.get("wandb") or (token_hex(4) if record.role.sweep else None),
            name=" ".join(name),
            group=record.role.sweep,
            job_type=record.exercise if record.exercise != "none" else "train",
        )
        super().__init__(project=run.project, version=run.id, save_dir=run.dir, experiment=run, **uploads)
        self._samples: list[list[Any]] = []
        self._offset = 1  # from Lightning's epochs and steps to ours
        self._place: int | None = None  # step of the last perplexities
        self._bits = dict[str, float]()  # and their bits per character
        self._is_slow = self._failed = False
        self._defined = {"epoch", STEP}
        for metric in self._defined:
            run.define_metric(metric, hidden=True)
        if not run.disabled:
            record.update(wandb=run.id, wandb_group=run.group or None)
        if record.role.prints and not (run.disabled or run.offline):
            print(f"W&B           {run.url}", flush=True)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Count from 1: while fitting, Lightning counts epochs and steps from 0; afterwards it gives their number."""
        self._offset = int(stage == "fit")

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics; with a perplexity its bits per character, and the gap where both are of the same step."""
        row = dict(metrics) | ({} if step is None else {STEP: step + self._offset})
        if "epoch" in row:
            row["epoch"] += self._offset
        if bits := bits_per_character(row):
            row |= bits | gap(bits if row.get(STEP) != self._place else self._bits | bits)
            self._place, self._bits = row.get(STEP), bits
        self._log(row)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the run's config has had all settings from the beginning."""

    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Upload the best checkpoint as `log_model` says."""
        with self._failure_in_one_line():
            super().after_save_checkpoint(checkpoint_callback)

    def finalize(self, status: str) -> None:
        """Upload checkpoints after a fit, as `log_model` says."""
        with self._failure_in_one_line():
            super().finalize(status)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Log the table anew after every n-th epoch and the last: W&B shows the last one."""
        epoch = trainer.current_epoch + 1
        if self.run.disabled or (epoch % self.sample_every_n_epochs and epoch != trainer.max_epochs):
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        for seed, prefix in enumerate(known_prefix(text, data) for text in PREFIXES):
            (likeliest,) = continue_text(pl_module, data.vocab, prefix, NUM_PREDS)
            (drawn,) = continue_text(pl_module, data.vocab, prefix, NUM_PREDS, ALPHA, seed=seed)
            self._samples.append([epoch, prefix, *(text.removeprefix(prefix) for text in (likeliest, drawn))])
        if not self._is_slow:  # else once, at the end
            self._log_samples(epoch)

    def _log_samples(self, epoch: int) -> None:
        began = perf_counter()
        table = wandb.Table(["epoch", "prefix", "greedy", f"alpha = {ALPHA:g}"], list(self._samples))
        self._log({SAMPLES: table, "epoch": epoch})
        self._is_slow = perf_counter() - began > 1

    def _log(self, row: dict[str, Any]) -> None:
        """Log a row. W&B draws the metrics of an epoch against `epoch`, others against the step."""
        with self._failure_in_one_line():
            for name in row.keys() - self._defined:
                is_of_epoch = name in OF_AN_EPOCH or name.endswith(("/perplexity", "/bits_per_character"))
                self.run.define_metric(name, step_metric="epoch" if is_of_epoch else STEP)
            self._defined |= row.keys()
            self.run.log(row)

    @contextmanager
    def _failure_in_one_line(self) -> Iterator[None]:
        """Print the first failure; what comes after it may still reach the run's file."""
        try:
            yield
        except Exception as error:  # wandb raises what it likes
            if not self._failed:
                print(f"W&B           failed ({in_one_line(error)}); metrics.csv has all numbers", file=sys.stderr)
            self._failed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Add the final numbers, the figure and, with `log_model`, the page; print how to upload the rest."""
        if self.run.disabled:
            return
        record, has_arrived = self.record, False
        status, message = outcome(error) if error else (record.summary["status"], record.summary["message"])
        try:
            with self._failure_in_one_line():
                self._log_end(status, message)
            with suppress(Exception):  # out of time, for example: the line below says that it is incomplete
                has_arrived = finish(self.run, status) and not self._failed
        finally:  # Ctrl-C, too
            if not has_arrived:
                with suppress(Exception):  # its process may have died, which wandb would say as the program ends
                    wandb.teardown()
            folder = Path(self.run.dir).parents[1]
            # A resumed run has several parts; `wandb sync` marks those that it has uploaded.
            parts = folder.glob(f"offline-run-*-{self.run.id}/*.wandb")
            is_left = self.run.offline or any(not part.with_suffix(".wandb.synced").exists() for part in parts)
            state = "offline" if is_left else ""
            if not (self.run.offline or has_arrived) or record.summary.get("wandb_left") == "incomplete":
                state = "incomplete"
            is_elsewhere = folder.resolve() != (record.folder / "wandb").resolve()  # WANDB_DIR
            with suppress(OSError):  # a full disk: the error that ends the run names it
                record.update(wandb_left="" if is_elsewhere else state)
            line = upload_line([state], folder)
            if (
                line and status != "failed" and (record.role.sweep is None or is_elsewhere)
            ):  # else the sweep prints it once
                print(line, flush=True)

    def _log_end(self, status: str, message: str | None) -> None:
        record = self.record
        self.run.summary.update(final_numbers(record.summary) | {"status": status, "message": message})
        if status != "completed":
            self.run.tags = tuple(dict.fromkeys([*(self.run.tags or ()), status]))
        if (figure := record.folder / "perplexity.png").exists():
            self.run.log({FIGURE: wandb.Image(str(figure))})
        if self._uploads and (page := record.folder / "page.html").exists():
            self.run.log({PAGE: wandb.Html(str(page), inject=False)})
        if self._is_slow:
            self._log_samples(record.summary["metrics"].get("epoch", 0))


def begin_run(
    typed: Mapping[str, Any], folder: Path, config: Mapping[str, Any], run_id: str | None = None, **defaults: Any
) -> wandb.Run:
    """Begin a run in W&B, or resume the one of that id: offline where no server answers, disabled where that fails.

    `typed`: arguments of WandbLogger and `wandb.init`; None is W&B's default, `mode=auto` its own mode, but offline
    without an API key. `defaults`: such arguments, unless they are typed or W&B's variables set them. What fails is
    printed, a line an attempt. Raise SettingError for an argument or a variable that W&B rejects.
    """
    for variable, value in VARIABLES.items():
        os.environ.setdefault(variable, value)
    names = {"save_dir": "dir", "version": "id"}  # of WandbLogger -> of wandb.init
    given = {"id": run_id} | {names.get(name, name): value for name, value in typed.items() if value is not None}
    settings = given.pop("settings", {}) | {name: given.pop(name) for name in TIMEOUTS if name in given}
    if "api_key" in settings:  # it would be in the run's files
        raise SettingError("logger.wandb.settings.api_key: not supported; use WANDB_API_KEY or wandb login")
    for name, default in (defaults | {"project": PROJECT, "dir": folder, "resume": "allow"}).items():
        if {"group": "WANDB_RUN_GROUP"}.get(name, f"WANDB_{name.upper()}") not in os.environ:
            given.setdefault(name, default)
    given.setdefault("reinit", "create_new")  # never the run of another job, which may still be ending
    mode = "offline" if given.pop("offline", False) else given.pop("mode", "auto")
    if mode == "auto" and os.environ.get("WANDB_DISABLED", "").lower() in ("1", "true", "yes"):
        mode = "disabled"
    for attempt in (mode, "offline"):
        try:
            known = wandb.setup(wandb.Settings(finish_timeout_raises=True, **settings)).settings
            chosen: Any = known.mode if attempt == "auto" else attempt
            if chosen in ("online", "run", "shared") and not wandb.login(prompt=False, verify=False):
                if attempt == "auto":
                    continue
                raise UserError("no API key is configured; use wandb login")  # wandb.init would ask for one
            run = wandb.init(**given, mode=chosen)
            run.config.update(config, allow_val_change=True)  # type: ignore[no-untyped-call]
            return run
        except (TypeError, ValidationError, wandb.errors.UsageError) as error:
            wandb.teardown()  # it keeps what it has read
            found = error.errors() if isinstance(error, ValidationError) else []
            fields = [f"{it['loc'][0]}={it['input']}: {it['msg']}" for it in found if it["loc"]]
            reason = "; ".join(fields) or one_line(error)
            raise SettingError(f"logger.wandb, or a variable WANDB_…: {reason}") from error
        except Exception as error:  # the network's, the server's, the key's: wandb raises what it likes
            print(f"W&B           {attempt} failed ({in_one_line(error)})", file=sys.stderr)
            with suppress(Exception):  # its process may have died
                wandb.teardown()
    print("W&B           is left out; metrics.csv has all numbers", file=sys.stderr)
    return wandb.init(mode="disabled")


def final_numbers(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's final metrics, with bits per character, its status and message: those of W&B's summary."""
    metrics: dict[str, Any] = summary["metrics"]
    bits = bits_per_character(metrics)
    bits |= {} if "val_step" in metrics else gap(bits)  # it was validated before the epoch's end
    return metrics | bits | {name: summary[name] for name in ("status", "message")}


def bits_per_character(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return log2 of each window perplexity: `val/bits_per_character` of `val/perplexity`."""
    found = {name.removesuffix("perplexity"): float(metrics[name]) for name in metrics if name.endswith("/perplexity")}
    return {f"{name}bits_per_character": math.log2(value) for name, value in found.items() if value > 0}  # not NaN


def gap(bits: Mapping[str, float]) -> dict[str, float]:
    """Return by how many bits per character the validation is above the training, if both are there."""
    train, val = (bits.get(f"{split}/bits_per_character", math.nan) for split in ("train", "val"))
    return {} if math.isnan(val - train) else {GAP: val - train}


def finish(run: wandb.Run, status: str) -> bool:
    """End the run; return False if the server refused a part of it, which wandb says in its log alone."""
    run.finish(exit_code=0 if status == "completed" else 1)
    log = Path(run.dir).parent / "logs" / "debug-internal.log"
    return not log.exists() or "fatal error" not in log.read_text(encoding="utf-8", errors="replace")


def in_one_line(error: Exception) -> str:
    """Return an error's message, or its type if it has none, in one line."""
    return one_line(error, 150) or type(error).__name__

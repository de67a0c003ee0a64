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
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger

from timemachine.config import REPOSITORY, Wandb
from timemachine.decoding import continue_text, known_prefix
from timemachine.errors import one_line
from timemachine.runs.record import Record
from timemachine.runs.sweep import upload_line
from timemachine.weights_and_biases import CHANGES, FIGURE, GAP, PAGE, PROJECT, SAMPLES, STEP

PREFIXES = ("it has", "time traveller", "the")  # of the table of samples
NUM_PREDS = 60  # characters that follow each
OF_AN_EPOCH = ("clip_fraction", "chars_per_second", "lr", SAMPLES)  # and perplexities
ALPHA = 2.0  # of the samples beside greedy decoding, which ends in a loop


class WandbRun(WandbLogger, Callback):
    """W&B's copy of metrics.csv, against `epoch`, and steps.csv, against `trainer/global_step`; both count from 1.

    As a callback it adds a table of how the model continues `PREFIXES`: greedily, and drawn from P^`ALPHA`, each prefix
    with its own random numbers, the same each time. Other callbacks may log images and numbers of their own, as with
    Lightning's class.
    """

    def __init__(self, run: wandb.Run, choice: Wandb) -> None:
        super().__init__(experiment=run, project=run.project, version=run.id, save_dir=run.dir)
        self.run, self.choice = run, choice
        self._samples: list[list[Any]] = []
        self._offset = 1  # from Lightning's epochs and steps to ours
        self._place: int | None = None  # step of the last perplexities
        self._bits = dict[str, float]()  # and their bits per character
        self._is_slow = self._failed = False
        self._defined = {"epoch", STEP}
        for name in self._defined:
            run.define_metric(name, hidden=True)

    @classmethod
    def begin(cls, choice: Wandb, record: Record) -> Self | None:
        """Begin W&B's run of a recorded one, or resume it; return None where `begin_run` does."""
        summary = record.summary
        changes = [o for o in record.overrides if not o.startswith(("exercise=", "logger", "resume="))]
        name = [summary["corpus"]["name"], *changes]
        except_seed = " ".join(part for part in name if not part.startswith("seed="))
        run = begin_run(
            choice,
            record.folder,
            # WANDB_RUN_ID is that of `wandb agent`; the jobs of a sweep of ours must not share it
            summary.get("wandb") or (None if record.group else os.environ.get("WANDB_RUN_ID")) or token_hex(4),
            name=choice.name or _unless_set("WANDB_NAME", " ".join(name)),
            group=_unless_set("WANDB_RUN_GROUP", record.group),
            job_type=_unless_set("WANDB_JOB_TYPE", record.exercise if record.exercise != "none" else "train"),
            tags=choice.tags,
            config=summary["settings"] | {CHANGES: except_seed, "corpus": summary["corpus"], "git": summary["git"]},
        )
        if run is None:
            return None
        record.update(wandb=run.id, wandb_group=run.group or None)
        if not (record.quiet or run.offline):
            print(f"W&B           {run.url}", flush=True)
        return cls(run, choice)

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

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Log the table anew after every n-th epoch and the last: W&B shows the last one."""
        epoch = trainer.current_epoch + 1
        if epoch % self.choice.sample_every_n_epochs and epoch != trainer.max_epochs:
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

    def end(self, record: Record, status: str, message: str | None) -> None:
        """Add the final numbers, the figure and, if wanted, page and best checkpoint; say how the run ended."""
        folder, has_arrived = Path(self.run.dir).parents[1], False
        try:
            with self._failure_in_one_line():
                self._log_end(record, status, message)
            with suppress(Exception):  # out of time, for example: the line below says that it is incomplete
                has_arrived = finish(self.run, status) and not self._failed
        finally:  # Ctrl-C, too
            if not has_arrived:
                with suppress(Exception):  # its process may have died, which wandb would say as the program ends
                    wandb.teardown()
            if self.run.offline:  # a `wandb sync` before the end may have marked what there was then as all
                Path(self.run.settings.sync_file).with_suffix(".wandb.synced").unlink(missing_ok=True)
            parts = folder.glob("offline-run-*/*.wandb")  # of a resumed run; `wandb sync` marks those it has uploaded
            state = "offline" if any(not part.with_suffix(".wandb.synced").exists() for part in parts) else ""
            if not (self.run.offline or has_arrived) or record.summary.get("wandb_left") == "incomplete":
                state = "incomplete"
            record.update(wandb_left=state)
            line = upload_line([state], folder)
            if line and status != "failed" and record.group is None:  # a sweep says it once for all its jobs
                print(line, flush=True)

    def _log_end(self, record: Record, status: str, message: str | None) -> None:
        self.run.summary.update(final_numbers(record.summary) | {"status": status, "message": message})
        if status != "completed":
            self.run.tags = tuple(dict.fromkeys([*(self.run.tags or ()), status]))
        if (figure := record.folder / "perplexity.png").exists():
            self.run.log({FIGURE: wandb.Image(str(figure))})
        if self.choice.log_model and (page := record.folder / "page.html").exists():
            self.run.log({PAGE: wandb.Html(str(page), inject=False)})
        if self._is_slow:
            self._log_samples(record.summary["metrics"].get("epoch", 0))
        if self.choice.log_model and (best := record.folder / "checkpoints" / "best.ckpt").exists():
            self.run.log_artifact(best, f"model-{self.run.id}", "model", aliases=["best"])


def begin_run(choice: Wandb, folder: Path, run_id: str, **named: Any) -> wandb.Run | None:
    """Begin a run in W&B, or resume the one of that id, offline where no server answers; return None if it is disabled.

    `folder`: where its `wandb/` is. `named`: other arguments of `wandb.init`. What fails is printed, a line an attempt;
    None, too, where both online and offline fail. Nothing prompts for an account.
    """
    os.environ.setdefault("WANDB_HTTP_TIMEOUT", "4")  # seconds
    settings = wandb.Settings(
        silent=True, console="off", git_root=str(REPOSITORY), init_timeout=choice.init_timeout,
        finish_timeout=choice.finish_timeout, finish_timeout_raises=True, x_disable_stats=True,
    )  # fmt: skip
    named |= {"project": choice.project or _unless_set("WANDB_PROJECT", PROJECT), "entity": choice.entity}
    for mode in (choice.mode.name, "offline"):
        try:
            wandb.setup(wandb.Settings(silent=True))
            chosen: Any = mode
            if mode == "auto":
                key = wandb.login(prompt=False, verify=False)
                chosen = os.environ.get("WANDB_MODE") or ("online" if key else "offline")
            if chosen == "disabled":
                return None
            # A new one, never the run of another job, which may still be ending.
            return wandb.init(
                dir=folder, id=run_id, resume="allow", reinit="create_new", mode=chosen, settings=settings, **named
            )
        except Exception as error:  # the network's, the server's, the key's: wandb raises what it likes
            print(f"W&B           {mode} failed ({in_one_line(error)})", file=sys.stderr)
            with suppress(Exception):  # it keeps what it has read, and a process that may have died
                wandb.teardown()
    print("W&B           is left out; metrics.csv has all numbers", file=sys.stderr)
    return None


def _unless_set(variable: str, value: str | None) -> str | None:
    """Return the value, or None if W&B's variable is set, which W&B reads itself."""
    return None if os.environ.get(variable) else value


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

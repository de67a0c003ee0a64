"""A run in Weights & Biases beside its files: what it carries, how it begins and ends.

A server that does not answer costs `init_timeout` seconds at the start, `finish_timeout` and twice `PATIENCE` at the
end, never the run.
"""

import math
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from secrets import token_hex
from threading import Thread
from typing import Any, Self

import lightning.pytorch as pl
import wandb
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only

from timemachine.config import REPOSITORY, Wandb
from timemachine.datamodule import TimeMachine
from timemachine.decoding import continue_text
from timemachine.language_model import RNNLMScratch
from timemachine.runs.record import Record
from timemachine.runs.sweep import flat, upload_line
from timemachine.weights_and_biases.workspace import CHANGES, FIGURE, PAGE, PROJECT, SAMPLES

PREFIXES = ("it has", "time traveller", "the")  # of the table of samples
NUM_PREDS = 60  # characters that follow each
OF_STEPS = ("loss", "grad_norm", "grad_norm_clipped")
PATIENCE = 4  # seconds for what wandb asks the server about a table or an artifact


class WandbRun(Callback):
    """W&B's copy of metrics.csv, against `epoch`, and steps.csv, against `trainer/global_step`; both count from 1.

    As a callback it adds to a table what greedy decoding makes of `PREFIXES`. Threads speak with wandb: one logs rows,
    0.7 ms each, another tables, which ask the server: seconds each where that is slow or has gone.
    """

    def __init__(self, run: wandb.Run, choice: Wandb) -> None:
        super().__init__()
        self.run, self.choice = run, choice
        self._samples: list[list[Any]] = []
        self._samples_logged = 0
        self._failed = self._complete = self._ended = False
        self._told: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._teller = Thread(target=self._tell, daemon=True)
        self._teller.start()
        self._uploader = Thread()
        for name in ("epoch", "trainer/global_step"):
            run.define_metric(name, hidden=True)
        for name in ("train/*", "val/*", "test/*", "clip_fraction", "chars_per_second", "lr", SAMPLES):
            run.define_metric(name, step_metric="epoch")
        for name in OF_STEPS:
            run.define_metric(name, step_metric="trainer/global_step")

    @classmethod
    def begin(cls, choice: Wandb, record: Record) -> Self | None:
        """Begin W&B's run of a recorded one; None where `begin_run` gives none."""
        changes = [o for o in record.overrides if not o.startswith(("exercise=", "logger", "resume="))]
        name = [record.summary["corpus"]["name"], *changes]
        but_for_seed = " ".join(part for part in name if not part.startswith("seed="))
        run = begin_run(
            choice,
            record.folder,
            record.summary.get("wandb") or (None if record.group else os.environ.get("WANDB_RUN_ID")) or token_hex(4),
            name=choice.name or _unless_set("WANDB_NAME", " ".join(name)),
            group=_unless_set("WANDB_RUN_GROUP", record.group),
            job_type=_unless_set("WANDB_JOB_TYPE", record.exercise if record.exercise != "none" else "train"),
            tags=choice.tags,
            config=flat(record.summary["settings"]) | {CHANGES: but_for_seed},
        )
        if run is None:
            return None
        run.summary.update(flat({name: record.summary[name] for name in ("corpus", "git")}))
        record.update(wandb=run.id, wandb_group=run.group or None)
        if not (record.quiet or run.offline):
            print(f"W&B           {run.url}", flush=True)
        return cls(run, choice)

    @rank_zero_only
    def log_steps(self, rows: list[dict[str, float]]) -> None:
        """Log an epoch's steps."""
        for row in rows:
            named: dict[str, Any] = {name: row[name] for name in row if name not in ("epoch", "step")}
            self._told.put(partial(self.run.log, named | {"trainer/global_step": row["step"]}))

    @rank_zero_only
    def log_row(self, row: dict[str, float]) -> None:
        """Log the numbers of a validation, an epoch or a test; the norms are logged by the step."""
        named: dict[str, Any] = {name: row[name] for name in row if name not in (*OF_STEPS, "step")}
        self._told.put(partial(self.run.log, named | in_bits(row)))

    @rank_zero_only
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After every n-th epoch and the last, log the table anew: W&B shows the last one."""
        epoch = trainer.current_epoch + 1
        if epoch % self.choice.sample_every_n_epochs and epoch != trainer.max_epochs:
            return
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(pl_module, RNNLMScratch) and isinstance(data, TimeMachine)
        for prefix in PREFIXES:
            (text,) = continue_text(pl_module, data.vocab, prefix, NUM_PREDS)
            self._samples.append([epoch, prefix, text.removeprefix(prefix)])
        if not self._uploader.is_alive():  # else a later one has these rows too
            self._uploader = Thread(target=self._carefully, args=(partial(self._log_samples, epoch),), daemon=True)
            self._uploader.start()

    def _log_samples(self, epoch: int) -> None:
        rows = list(self._samples)
        if len(rows) > self._samples_logged:
            self._samples_logged = len(rows)
            self.run.log({SAMPLES: wandb.Table(["epoch", "prefix", "continuation"], rows), "epoch": epoch})

    def end(self, record: Record, status: str, message: str | None) -> None:
        """Add the final numbers, the figure and, if wanted, page and best checkpoint; mark how the run ended."""
        self._told.put(partial(self._finish, record, status, message))
        self._told.put(None)
        try:
            self._teller.join(self.choice.finish_timeout + 2 * PATIENCE)  # a table and the model ask the server
        finally:  # Ctrl-C, too
            self._ended = True
            part = Path(self.run.dir).parent
            now = "offline" if self.run.offline else "" if self._complete else "incomplete"
            states = [now, _left_of_others(record.summary.get("wandb_left", ""), part)]
            record.update(wandb_left="incomplete" if "incomplete" in states else max(states))
            line = upload_line(states, part.parent)
            if line and status != "failed" and record.group is None:  # a sweep says it once for all its jobs
                print(line, flush=True)

    def _finish(self, record: Record, status: str, message: str | None) -> None:
        numbers = record.summary["metrics"]
        self.run.summary.update({**numbers, **in_bits(numbers), "status": status, "message": message})
        if status != "completed":
            self.run.tags = tuple(dict.fromkeys([*(self.run.tags or ()), status]))
        if (figure := record.folder / "perplexity.png").exists():
            self.run.log({FIGURE: wandb.Image(str(figure))})
        if self.choice.log_model and (page := record.folder / "page.html").exists():
            self.run.log({PAGE: wandb.Html(str(page), inject=False)})
        if self._uploader.is_alive():
            self._uploader.join(PATIENCE)
        if not self._failed:
            self._log_samples(numbers.get("epoch", 0))
            if self.choice.log_model and (best := record.folder / "checkpoints" / "best.ckpt").exists():
                self.run.log_artifact(best, f"model-{self.run.id}", "model", aliases=["best"])
        self.run.finish(exit_code=0 if status == "completed" else 1)
        self._complete = not self._failed and not was_refused(self.run)

    def _tell(self) -> None:
        for tell in iter(self._told.get, None):
            self._carefully(tell)
        if self._failed and not (self._complete or self._ended):
            with suppress(Exception):  # its process may have died, which wandb would say as the program ends
                wandb.teardown()

    def _carefully(self, tell: Callable[[], Any]) -> None:
        """Do it. A failure is printed once; later rows may still reach the run's file."""
        try:
            tell()
        except Exception as error:  # wandb raises what it likes
            if not (self._failed or self._ended):
                print(f"W&B           failed ({in_one_line(error)}); the run goes on without", file=sys.stderr)
            self._failed = True


def begin_run(choice: Wandb, folder: Path, run_id: str, **named: Any) -> wandb.Run | None:
    """Begin a run in W&B, or go on with the one of that id, offline where no server answers; None if it is disabled.

    `folder`: where its `wandb/` is. `named`: other arguments of `wandb.init`. What fails is printed, a line a try; None
    where online and offline fail. Nothing ever prompts for an account.
    """
    os.environ.setdefault("WANDB_HTTP_TIMEOUT", str(PATIENCE))
    if not os.environ.get("WANDB_MODE"):
        os.environ.pop("WANDB_MODE", None)  # wandb refuses an empty one
    for attempt in (choice.mode.name, "offline"):
        try:
            wandb.setup(wandb.Settings(silent=True))
            mode = _chosen_elsewhere() if attempt == "auto" else attempt
            if mode == "disabled":
                return None
            return wandb.init(
                project=choice.project or _unless_set("WANDB_PROJECT", PROJECT),
                entity=choice.entity,
                dir=folder,
                id=run_id,
                resume="allow",
                reinit="create_new",  # never the run of another job, which may still be ending
                mode=mode,  # type: ignore[arg-type]
                settings=wandb.Settings(
                    silent=True,
                    console="off",
                    git_root=str(REPOSITORY),
                    init_timeout=choice.init_timeout,
                    finish_timeout=choice.finish_timeout,
                    finish_timeout_raises=True,
                    x_disable_stats=True,
                ),
                **named,
            )
        except Exception as error:  # the network's, the server's, the key's: wandb raises what it likes
            print(f"W&B           {attempt} failed ({in_one_line(error)})", file=sys.stderr)
            with suppress(Exception):  # it keeps what it has read, and a process that may have died
                wandb.teardown()
    print("W&B           is left out; metrics.csv has all numbers", file=sys.stderr)
    return None


def _unless_set(variable: str, value: str | None) -> str | None:
    """Return the value, or None if W&B's variable is set, which W&B reads itself."""
    return None if os.environ.get(variable) else value


def in_bits(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the window perplexities in bits a character, their log2: `val/bits_per_character` of `val/perplexity`."""
    found = {name.removesuffix("perplexity"): float(metrics[name]) for name in metrics if name.endswith("/perplexity")}
    return {f"{name}bits_per_character": math.log2(value) for name, value in found.items() if value > 0}


def _left_of_others(state: str, part: Path) -> str:
    """Return "" if the other parts of a resumed run have been uploaded since, otherwise their state as it was."""
    others = (other for other in part.parent.glob("offline-run-*" if state == "offline" else "*run-*") if other != part)
    files = (file for other in others for file in other.glob("*.wandb"))
    return "" if all(file.with_suffix(".wandb.synced").exists() for file in files) else state


def was_refused(run: wandb.Run) -> bool:
    """Whether the server refused numbers of a run that has ended, which wandb says in its log alone."""
    log = Path(run.dir).parent / "logs" / "debug-internal.log"
    return log.exists() and "fatal error" in log.read_text(encoding="utf-8", errors="replace")


def in_one_line(error: Exception) -> str:
    """Return what an error says in one line of at most 150 characters."""
    return " ".join(str(error).split())[:150] or type(error).__name__


def _chosen_elsewhere() -> str:
    """WANDB_MODE, or online where a key is configured, offline otherwise."""
    chosen = os.environ.get("WANDB_MODE")
    return chosen or ("online" if wandb.login(prompt=False, verify=False) else "offline")

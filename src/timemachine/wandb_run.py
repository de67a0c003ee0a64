"""A run in Weights & Biases beside its files: what it carries, how it begins and ends.

A server that does not answer costs `init_timeout` seconds at the start, `finish_timeout` and twice `PATIENCE` at the
end, never the run.
"""

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
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from timemachine.config import REPOSITORY, Wandb
from timemachine.datamodule import TimeMachine
from timemachine.decoding import continue_text
from timemachine.language_model import RNNLMScratch
from timemachine.record import Record
from timemachine.sweep import flat

PREFIXES = ("it has", "time traveller", "the")  # of the table of samples
NUM_PREDS = 60  # characters that follow each
PATIENCE = 4  # seconds for what wandb asks the server about a table or an artifact


class WandbRun(Logger, Callback):
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
        for name in ("train/*", "val/*", "test/*", "clip_fraction", "chars_per_second", "samples"):
            run.define_metric(name, step_metric="epoch")
        for name in ("loss", "grad_norm", "grad_norm_clipped"):
            run.define_metric(name, step_metric="trainer/global_step")

    @classmethod
    def begin(
        cls, choice: Wandb, record: Record, name: str, group: str | None, job_type: str, quiet: bool
    ) -> Self | None:
        """Begin W&B's run of a recorded one, offline where no server answers; None where neither can be.

        Nothing ever prompts for an account.
        """
        os.environ.setdefault("WANDB_HTTP_TIMEOUT", str(PATIENCE))
        if not os.environ.get("WANDB_MODE"):
            os.environ.pop("WANDB_MODE", None)  # wandb refuses an empty one
        run_id = record.summary.get("wandb") or os.environ.get("WANDB_RUN_ID") or token_hex(4)
        for attempt in (choice.mode.name, "offline"):
            try:
                wandb.setup(wandb.Settings(silent=True))
                mode = _chosen_elsewhere() if attempt == "auto" else attempt
                if mode == "disabled":
                    return None
                run = wandb.init(
                    project=choice.project,
                    entity=choice.entity,
                    dir=record.folder,
                    id=run_id,
                    resume="allow",
                    reinit="create_new",  # never the run of another job, which may still be ending
                    name=name,
                    group=group,
                    job_type=job_type,
                    tags=choice.tags,
                    config=flat(record.summary["settings"]),
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
                )
            except Exception as error:  # the network's, the server's, the key's: wandb raises what it likes
                print(f"W&B           {attempt} failed ({_in_one_line(error)})", file=sys.stderr)
                with suppress(Exception):  # it keeps what it has read, and a process that may have died
                    wandb.teardown()
            else:
                run.summary.update(flat({name: record.summary[name] for name in ("corpus", "git")}))
                record.update(wandb=run.id)
                if not (quiet or run.offline):
                    print(f"W&B           {run.url}", flush=True)
                return cls(run, choice)
        print("W&B           is left out; metrics.csv has all numbers", file=sys.stderr)
        return None

    @property
    def name(self) -> str:
        """W&B's project."""
        return self.run.project

    @property
    def version(self) -> str:
        """W&B's name of the run, unique in the project."""
        return self.run.id

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run began with its settings."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """A step's numbers where there is a gradient's norm, else an epoch's."""
        row: dict[str, Any] = dict(metrics)
        epoch = row.pop("epoch") + ("test/perplexity" not in row)  # after training Lightning has counted on
        row |= {"trainer/global_step": step} if "grad_norm" in row else {"epoch": epoch}
        self._told.put(lambda: self.run.log(row))

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
            self.run.log({"samples": wandb.Table(["epoch", "prefix", "continuation"], rows), "epoch": epoch})

    def end(self, record: Record, status: str, message: str | None) -> None:
        """Add the final numbers, the figure and the best checkpoint, if wanted; mark how the run ended."""
        self._told.put(partial(self._finish, record, status, message))
        self._told.put(None)
        try:
            self._teller.join(self.choice.finish_timeout + 2 * PATIENCE)  # a table and the model ask the server
        finally:  # Ctrl-C, too
            folder, self._ended = Path(self.run.dir).parent, True
            if status != "failed" and (self.run.offline or not self._complete):
                state, flags = ("offline", "") if self.run.offline else ("incomplete", "--include-online ")
                print(f"W&B           {state}; upload with: wandb sync {flags}{os.path.relpath(folder)}", flush=True)

    def _finish(self, record: Record, status: str, message: str | None) -> None:
        self.run.summary.update({**record.summary["metrics"], "status": status, "message": message})
        if status != "completed":
            self.run.tags = tuple(dict.fromkeys([*(self.run.tags or ()), status]))
        if (figure := record.folder / "perplexity.png").exists():
            self.run.log({"perplexity": wandb.Image(str(figure))})
        if self._uploader.is_alive():
            self._uploader.join(PATIENCE)
        if not self._failed:
            self._log_samples(record.summary["metrics"].get("epoch", 0))
            if self.choice.log_model and (best := record.folder / "checkpoints" / "best.ckpt").exists():
                self.run.log_artifact(best, f"model-{self.run.id}", "model", aliases=["best"])
        log = Path(self.run.dir).parent / "logs" / "debug-internal.log"
        self.run.finish(exit_code=0 if status == "completed" else 1)
        # wandb does not say otherwise that the server refused the numbers.
        self._complete = not self._failed and not (log.exists() and "fatal error" in log.read_text())

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
                print(f"W&B           failed ({_in_one_line(error)}); the run goes on without", file=sys.stderr)
            self._failed = True


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:150] or type(error).__name__


def _chosen_elsewhere() -> str:
    """WANDB_MODE, or online where a key is configured, offline otherwise."""
    chosen = os.environ.get("WANDB_MODE")
    return chosen or ("online" if wandb.login(prompt=False, verify=False) else "offline")

"""A run in Weights & Biases beside its files: what it carries, how it begins and ends.

A server that does not answer costs `init_timeout` seconds at the start and `finish_timeout` at the end, never the run.
"""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
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

    As a callback it adds to a table what greedy decoding makes of `PREFIXES`. A thread speaks with wandb, which takes
    0.7 ms a row, and seconds a table where the server has gone.
    """

    def __init__(self, run: wandb.Run, choice: Wandb) -> None:
        super().__init__()
        self.run, self.choice = run, choice
        self._samples: list[list[Any]] = []
        self._failed = self._complete = False
        self._told: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._thread = Thread(target=self._tell, daemon=True)
        self._thread.start()
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
        wandb.setup(wandb.Settings(silent=True))
        for attempt in (choice.mode.name, "offline"):
            try:
                mode = _chosen_elsewhere() if attempt == "auto" else attempt
                if mode == "disabled":
                    return None
                run = wandb.init(
                    project=choice.project,
                    entity=choice.entity,
                    dir=record.folder,
                    id=record.summary.get("wandb"),
                    resume="allow",
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
        rows = list(self._samples)

        def log() -> None:
            if not self._failed:  # a table asks the server
                self.run.log({"samples": wandb.Table(["epoch", "prefix", "continuation"], rows), "epoch": epoch})

        self._told.put(log)

    def end(self, record: Record, status: str, message: str | None) -> None:
        """Add the final numbers, the figure and the best checkpoint, if wanted; mark how the run ended."""
        folder = record.folder

        def finish() -> None:
            self.run.summary.update({**record.summary["metrics"], "status": status, "message": message})
            if status != "completed":
                self.run.tags = (*(self.run.tags or ()), status)
            if (figure := folder / "perplexity.png").exists():
                self.run.log({"perplexity": wandb.Image(str(figure))})
            if self.choice.log_model and not self._failed and (best := folder / "checkpoints" / "best.ckpt").exists():
                self.run.log_artifact(best, f"model-{self.run.id}", "model", aliases=["best"])
            self.run.finish(exit_code=0 if status == "completed" else 1)
            self._complete = not self._failed

        self._told.put(finish)
        self._told.put(None)
        self._thread.join(self.choice.finish_timeout + 2 * PATIENCE)  # a table may be under way, the model comes
        if status != "failed" and (self.run.offline or not self._complete):
            state = "offline" if self.run.offline else "incomplete"
            flags = "" if self.run.offline else "--include-online "
            print(f"W&B           {state}; upload with: wandb sync {flags}{os.path.relpath(Path(self.run.dir).parent)}")

    def _tell(self) -> None:
        """What the thread does. A failure is printed once; later rows may still reach the run's file."""
        for tell in iter(self._told.get, None):
            try:
                tell()
            except Exception as error:  # wandb raises what it likes
                if not self._failed:
                    print(f"W&B           failed ({_in_one_line(error)}); the run goes on without", file=sys.stderr)
                self._failed = True
        if self._failed:
            with suppress(Exception):  # the next job of a sweep begins anew; here, and not when the program ends
                wandb.teardown()


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:150]


def _chosen_elsewhere() -> str:
    """WANDB_MODE, or online where a key is configured, offline otherwise."""
    chosen = os.environ.get("WANDB_MODE")
    return chosen or ("online" if wandb.login(prompt=False, verify=False) else "offline")

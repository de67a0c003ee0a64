"""A run in Weights & Biases beside its files: what it carries, how it begins and ends.

A server that does not answer costs `init_timeout` seconds at the start and `finish_timeout` at the end, never the run.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
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


class WandbRun(Logger, Callback):
    """W&B's copy of metrics.csv, against `epoch`, and steps.csv, against `trainer/global_step`; both count from 1.

    As a callback it adds to a table what greedy decoding makes of `PREFIXES`.
    """

    def __init__(self, run: wandb.Run, choice: Wandb) -> None:
        super().__init__()
        self.run, self.choice = run, choice
        self._samples: list[list[Any]] = []
        for name in ("epoch", "trainer/global_step"):
            run.define_metric(name, hidden=True)
        for name in ("train/*", "val/*", "test/*", "clip_fraction", "chars_per_second", "samples"):
            run.define_metric(name, step_metric="epoch")
        for name in ("loss", "grad_norm", "grad_norm_clipped"):
            run.define_metric(name, step_metric="trainer/global_step")

    @classmethod
    def begin(cls, choice: Wandb, record: Record, name: str, group: str | None, job_type: str) -> Self | None:
        """Begin W&B's run of a recorded one, offline where no server answers; None where neither can be.

        Nothing ever prompts for an account.
        """
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
                        x_disable_stats=True,
                    ),
                )
            except Exception as error:  # the network's, the server's, the key's: wandb raises what it likes
                reason = " ".join(str(error).split())[:150]
                print(f"W&B           {attempt} failed ({reason})", file=sys.stderr)
            else:
                run.summary.update(flat({name: record.summary[name] for name in ("corpus", "git")}))
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
        row = dict(metrics)
        epoch = row.pop("epoch") + 1
        self.run.log(row | ({"trainer/global_step": step} if "grad_norm" in row else {"epoch": epoch}))

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
        self.run.log({"samples": wandb.Table(["epoch", "prefix", "continuation"], self._samples), "epoch": epoch})

    def end(self, record: Record, status: str, message: str | None) -> None:
        """Add the final numbers, the figure and the best checkpoint if wanted; mark how the run ended."""
        folder = record.folder
        self.run.summary.update({**record.summary["metrics"], "status": status, "message": message})
        if status != "completed":
            self.run.tags = (*(self.run.tags or ()), status)
        if (figure := folder / "perplexity.png").exists():
            self.run.log({"perplexity": wandb.Image(str(figure))})
        if self.choice.log_model and (best := folder / "checkpoints" / "best.ckpt").exists():
            self.run.log_artifact(best, f"model-{self.run.id}", "model", aliases=["best"])
        local, offline = Path(self.run.dir).parent, self.run.offline
        self.run.finish(exit_code=0 if status == "completed" else 1)
        if offline:
            print(f"W&B           offline; upload with: wandb sync {os.path.relpath(local)}")


def _chosen_elsewhere() -> str:
    """WANDB_MODE, or online where a key is configured, offline otherwise."""
    chosen = os.environ.get("WANDB_MODE")
    return chosen or ("online" if wandb.login(prompt=False, verify=False) else "offline")

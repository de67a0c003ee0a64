"""A table of continuations for loggers with tables, such as W&B's. Does not import wandb, which is slow."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from timemachine.datamodule import TimeMachine
from timemachine.decoding import continue_text, known_prefix
from timemachine.language_model import RNNLMScratch
from timemachine.weights_and_biases import SAMPLES


class SampleTable(Callback):
    """Log how the model continues each prefix, greedily and sampled from P^alpha, after every n-th epoch."""

    def __init__(self, prefixes: list[str], every_n_epochs: int = 10, num_preds: int = 60, alpha: float = 2.0) -> None:
        self.prefixes, self.every_n_epochs, self.num_preds, self.alpha = prefixes, every_n_epochs, num_preds, alpha
        self.rows: list[list[Any]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Log the whole table again: W&B shows the last one."""
        epoch, data = trainer.current_epoch + 1, trainer.datamodule  # type: ignore[attr-defined]
        loggers: list[Any] = [logger for logger in trainer.loggers if hasattr(logger, "log_table")]
        if not isinstance(pl_module, RNNLMScratch) or not isinstance(data, TimeMachine):
            return
        if not loggers or not trainer.is_global_zero or epoch % self.every_n_epochs:
            return
        for seed, prefix in enumerate(known_prefix(text, data) for text in self.prefixes):
            texts = (
                continue_text(pl_module, data.vocab, prefix, self.num_preds, alpha, seed=seed)[0].removeprefix(prefix)
                for alpha in (None, self.alpha)
            )
            self.rows.append([epoch, prefix, *texts])
        for logger in loggers:
            columns = ["epoch", "prefix", "greedy", f"alpha = {self.alpha:g}"]
            logger.log_table(SAMPLES, columns, list(self.rows), step=trainer.global_step - 1)

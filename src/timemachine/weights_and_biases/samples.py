"""A table of continuations for loggers with tables, such as W&B's. Does not import wandb, which is slow."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from timemachine.config import COUNT, GENERATE, POSITIVE, Valid, check
from timemachine.decoding import continue_text, known_prefix
from timemachine.language_model import RNNLMScratch
from timemachine.weights_and_biases import SAMPLES

VALID: dict[str, Valid] = {"every_n_epochs": COUNT, "num_preds": GENERATE["num_preds"], "alpha": POSITIVE}


class SampleTable(Callback):
    """Log how the model continues each prefix, greedily and sampled from P^alpha, after every n-th epoch."""

    def __init__(self, prefixes: list[str], every_n_epochs: int = 10, num_preds: int = 60, alpha: float = 2.0) -> None:
        check({"every_n_epochs": every_n_epochs, "num_preds": num_preds, "alpha": alpha}, VALID, "callbacks.samples.")
        self.prefixes, self.every_n_epochs, self.num_preds, self.alpha = prefixes, every_n_epochs, num_preds, alpha
        self.rows: list[list[Any]] = []

    def state_dict(self) -> dict[str, Any]:
        """Return the rows, which a resumed run logs again."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows."""
        self.rows = state_dict["rows"]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Log the whole table again: W&B shows the last one."""
        epoch, data = trainer.current_epoch + 1, trainer.datamodule  # type: ignore[attr-defined]
        loggers: list[Any] = [logger for logger in trainer.loggers if hasattr(logger, "log_table")]
        if not isinstance(pl_module, RNNLMScratch):
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

"""The model and a sample of a run, as files."""

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from timemachine.language_model import RNNLMScratch
from timemachine.run.progress import continuation
from timemachine.run.run import Run
from timemachine.run.weights import exported


class Export(Callback):
    """Write model.safetensors, for `load_run` and for any program that reads the format, and sample.txt at the end.

    The sample is the book's prefix and its greedy continuation. Only an `RNNLMScratch` has them.
    """

    def log_results(self, run: Run, trainer: pl.Trainer) -> str:
        """Write the files; return a line with the continuation, "" for another model."""
        model, data = trainer.lightning_module, trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(model, RNNLMScratch):
            return ""
        run.write("model.safetensors", exported(model.eval(), data.vocab, dict(run.summary)))
        sample = continuation(model, data)
        run.write("sample.txt", f"{sample}\n".encode())
        return 'continuation  "{}"'.format(sample.replace("\n", "↵"))  # in quotes, since it may end in spaces

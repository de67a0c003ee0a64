"""Callbacks of each run: how it is interrupted, and what trains it."""

import signal

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from timemachine import kernels
from timemachine.kernels import fused
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.run.processes import interrupt
from timemachine.run.record import Record


class Interruptible(Callback):
    """Let SIGINT and SIGTERM interrupt training at once, in place of Lightning's handlers.

    Lightning's waits for the other processes of a run, which may wait for this one. Of several processes the first one
    is interrupted, and Lightning kills the others.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace the handlers that Lightning has installed as the fit began; it restores the old ones at its end."""
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:  # as a shell starts what runs in the background
                signal.signal(number, interrupt if trainer.is_global_zero else signal.SIG_IGN)


class TrainingStart(Callback):
    """Record what trains the model, as `kernel`.

    It says what the compiled kernel would gain, or that the kernel is another than before.
    """

    def __init__(self, run: Record) -> None:
        self.run = run

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ask the model, which is now where it trains, in the precision in which it trains."""
        with trainer.precision_plugin.forward_context():
            kernel = pl_module.kernel() if isinstance(pl_module, FusedRNNLM) else "autograd"
        if kernel == "fused":
            kernel = f"fused ({fused.instruction_sets()[0]})"
        before, network = self.run.before.get("kernel", kernel), pl_module.hparams
        self.run.update(kernel=kernel)
        if not self.run.role.prints or (self.run.role.sweep is not None and self.run.folder.name != "0"):
            return
        if kernel != before:
            print(f"kernel        {before} when the run began, {kernel} now: the last digits may differ")
        if network["backward"] == "auto" and kernel == "bptt" and pl_module.device.type == "cpu":
            sizes = network["hiddens"], network["vocab_size"], network["activation"]
            if kernels.is_fastest(*sizes) and not kernels.is_compiled():
                print(kernels.NOT_COMPILED)

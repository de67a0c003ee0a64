"""What a run needs beside its checkpoint to go on with the same digits: precision, rates, and which kernel trains."""

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from timemachine import kernels
from timemachine.kernels import fused
from timemachine.kernels.loss import kernel_of
from timemachine.runs.record import Record


class Resumption(Callback):
    """Restores weights in the run's precision, and lets a new `model.lr` act.

    What else an optimiser remembers is the checkpoint's.
    """

    def __init__(self) -> None:
        self._are_new, self._rates = False, list[dict[str, float]]()

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Convert the weights before Lightning restores them, not after: in between float64 would be cut to float32."""
        trainer.precision_plugin.convert_module(pl_module)

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Compare the rate of the settings with that of the checkpoint."""
        self._are_new = checkpoint["hyper_parameters"]["lr"] != pl_module.hparams["lr"]

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the rates that the optimisers begin with, before Lightning restores them."""
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self._rates = [{name: group[name] for name in ("lr", "initial_lr") if name in group} for group in groups]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put them back, if they are new."""
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        for group, rates in zip(groups, self._rates, strict=True):
            group |= rates if self._are_new else {}


class KernelNote(Callback):
    """Writes `kernel` into summary.json; says what the compiled one would gain, or that it is another than before."""

    def __init__(self, run: Record) -> None:
        self.run = run

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ask the model, which is now where it trains, in the precision in which it trains."""
        with trainer.precision_plugin.forward_context():
            kernel = kernel_of(pl_module)
        if kernel == "fused":
            kernel = f"fused ({fused.instruction_sets()[0]})"
        before, network = self.run.before.get("kernel", kernel), pl_module.hparams
        self.run.update(kernel=kernel)
        if not self.run.writes or self.run.quiet or self.run.in_sweep:
            return
        if kernel != before:
            print(f"kernel  {before} when the run began, {kernel} now: the last digits may differ")
        if network["backward"] == "auto" and kernel == "bptt" and pl_module.device.type == "cpu":
            sizes = network["hiddens"], network["vocab_size"], network["activation"]
            if kernels.is_fastest(*sizes) and not kernels.is_compiled():
                print(kernels.NOT_COMPILED)

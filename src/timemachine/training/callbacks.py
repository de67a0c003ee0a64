"""Callbacks of each run: one orderly end, and what it takes beside a checkpoint to go on with the same digits."""

import signal
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from timemachine import kernels
from timemachine.errors import SettingError
from timemachine.kernels import fused
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.page import LARGEST, check_model, size_of
from timemachine.runs.epochs import KEPT, Weights, halved, read_weights, write_weights
from timemachine.runs.processes import Signalled
from timemachine.runs.record import Record
from timemachine.training.lightning import kill_other_processes

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class OrderlyEnd(Callback):
    """Ends the run after the batch in which the first SIGINT (Ctrl-C), SIGTERM, SIGHUP, SIGUSR1 or SIGUSR2 comes.

    A second one ends the process at once, as the system has it. Before and after training the first Ctrl-C, SIGTERM or
    SIGHUP raises an exception at once (`runs.processes.end_in_order`; Lightning calls a handler of SIGTERM that it
    finds), and the others end the process. The end of a job's time is announced by SIGUSR1, by submitit by SIGUSR2. Of
    several processes the first one listens and ends the others.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}  # handlers
        self._received: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen, in the place of Lightning, which waits for the other processes, which may wait for this one."""
        handler = self._note if trainer.is_global_zero else signal.SIG_IGN
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup
                self._before[number] = signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        for other in self._before:
            signal.signal(other, signal.SIG_DFL)

    def on_train_batch_end(self, *_: Any) -> None:
        """Raise Signalled if a signal has come."""
        if self._received is not None:
            raise Signalled(self._received)

    def on_validation_batch_end(self, *_: Any) -> None:
        """Raise Signalled if a signal has come."""
        self.on_train_batch_end()

    def on_train_end(self, *_: Any) -> None:
        """Stop listening; raise Signalled if a signal has come since the last batch."""
        self.on_train_batch_end()
        self._restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """End the other processes before they fail for want of this one; stop listening."""
        if isinstance(exception, KeyboardInterrupt | SystemExit):
            kill_other_processes(trainer)
        self._restore()

    def _restore(self) -> None:
        if self._received is None:
            for number, handler in self._before.items():
                signal.signal(number, handler)
        self._before.clear()


class EpochWeights(Callback):
    """Keeps the weights of a few epochs for the run's page, where it has one and has room for all of them.

    An epoch's are written before its checkpoint, as its row is: a run that is killed between the two lacks nothing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights before training; of a run that goes on drop what came after its checkpoint."""
        if trainer.current_epoch == 0:
            self._keep(0, {}, pl_module)
            return
        weights = read_weights(self.folder)
        before = {epoch: weights[epoch] for epoch in weights if epoch <= trainer.current_epoch}
        if len(before) < len(weights):
            write_weights(self.folder, before)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights if the epoch is one of those."""
        if (epoch := trainer.current_epoch + 1) in KEPT:
            self._keep(epoch, read_weights(self.folder), pl_module)

    def _keep(self, epoch: int, weights: dict[int, Weights], model: Any) -> None:
        with suppress(SettingError):
            check_model(model)
            if size_of(model, len(KEPT)) <= LARGEST:
                write_weights(self.folder, weights | {epoch: halved(model)})


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
        if not self.run.writes or self.run.quiet or (self.run.in_sweep and self.run.folder.name != "0"):
            return
        if kernel != before:
            print(f"kernel        {before} when the run began, {kernel} now: the last digits may differ")
        if network["backward"] == "auto" and kernel == "bptt" and pl_module.device.type == "cpu":
            sizes = network["hiddens"], network["vocab_size"], network["activation"]
            if kernels.is_fastest(*sizes) and not kernels.is_compiled():
                print(kernels.NOT_COMPILED)

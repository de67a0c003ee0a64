"""One orderly end of a run: what the first signal does while a run trains."""

import signal
from types import FrameType
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from timemachine.runs.processes import Signalled
from timemachine.training.lightning import kill_other_processes

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class OrderlyEnd(Callback):
    """Ends the run after the batch in which the first SIGINT (Ctrl-C), SIGTERM, SIGHUP, SIGUSR1 or SIGUSR2 comes.

    A second one ends the process at once, as the system has it; so does a first one before or after training, but for
    Ctrl-C, Python's KeyboardInterrupt. The end of a job's time is announced by SIGUSR1, by submitit by SIGUSR2. Of
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

"""What a signal does: it ends the program at once, but in order while there is something to save; the second, at once.

In order means an exception, `Signalled`, on which the record and the loggers close.
"""

import functools
import os
import signal
import socket
import sys
import threading
import time
import types
from typing import NoReturn

from timemachine.runs.processes import Signalled, is_first_process, is_job

INTERRUPTED = 130  # the shell's exit status after Ctrl-C
SIGHUP = getattr(signal, "SIGHUP", None)  # None on Windows
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP") if hasattr(signal, name))
_put_off: list[int] = []  # signals that are sent a second time, and are no second signal


def obey_signals() -> None:
    """Let a signal end the program at once, until `end_in_order`.

    A process that Lightning has started ignores signals and ends with the first process; a job of a sweep ends with the
    sweep.
    """
    by_lightning = any(argument.startswith("hydra.job.name=train_ddp_process_") for argument in sys.argv)
    if by_lightning:
        ignore_signals()
    for number in SIGNALS:  # no exception yet: what is imported meanwhile would catch it
        if not (by_lightning or (number == SIGHUP and signal.getsignal(number) == signal.SIG_IGN)):  # nohup
            signal.signal(number, _end_at_once)
    if is_job() or not is_first_process():
        end_with(os.getppid())
    _listen()


@functools.cache
def _listen() -> None:
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach())
    threading.Thread(target=_end_at_the_second, args=(reader,), daemon=True).start()


def _end_at_the_second(signals: socket.socket) -> None:
    """Wait for the second signal in a thread: no handler runs while the main thread waits for another process."""
    came = 0
    while True:
        number = signals.recv(1)[0]
        if number in _put_off:
            _put_off.remove(number)
            continue
        came += number in SIGNALS
        if came > 1 and number != SIGHUP:  # which shell and system both send when a terminal is closed
            _end_at_once(number, None)


def ignore_signals() -> None:
    """Let a process that ends with another one, which hears them too, ignore all signals."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def end_with(parent: int) -> None:
    """End this process when its parent has ended, in whatever way."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def end_in_order() -> None:
    """Let the first signal raise `Signalled` from now on, as there is something to save."""
    by_submitit = "SUBMITIT_EXECUTOR" in os.environ  # which ignores the signal that announces the end of a job
    for number in SIGNALS:
        if signal.getsignal(number) is _end_at_once or (by_submitit and number == signal.SIGTERM):
            signal.signal(number, _stop)


def _stop(number: int, frame: types.FrameType | None) -> None:
    """Raise `Signalled`; after a KeyboardInterrupt Lightning and others would not hear the second signal.

    Not while something is imported, which may catch it or be left half done: then it comes again a little later.
    """
    if _is_imported(frame):
        threading.Timer(0.05, _send_again, (number,)).start()
        return
    for later in SIGNALS:
        signal.signal(later, lambda number, frame: None)  # left to `_end_at_the_second`
    raise Signalled(number)


def _is_imported(frame: types.FrameType | None) -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _send_again(number: int) -> None:
    _put_off.append(number)
    os.kill(os.getpid(), number)


def _end_at_once(number: int, frame: types.FrameType | None) -> NoReturn:
    os.write(2, f"{how_it_ended(number)}\n".encode())
    os._exit(128 + number)


def how_it_ended(number: int) -> str:
    """Return what to print after a signal."""
    return "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"

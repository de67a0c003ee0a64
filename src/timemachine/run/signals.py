"""How programs end: after Ctrl-C or SIGTERM, and when the reader of stdout or the parent process has ended."""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import psutil

# Exit statuses, as of a shell.
INTERRUPTED, TERMINATED, CLOSED_PIPE = 128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGPIPE
POLL_SECONDS = 0.5


def end_quietly() -> None:
    """Exit with status 130 after Ctrl-C, without a traceback: also while Hydra composes the settings."""

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.exit(INTERRUPTED)
        sys.__excepthook__(kind, error, trace)

    sys.excepthook = hook


def end_orderly(last_words: Callable[[], None]) -> None:
    """Let SIGTERM raise SystemExit, so that joblib ends its workers; call `last_words` when this process ends."""
    atexit.register(last_words)
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))


@contextmanager
def exit_if_pipe_closed() -> Iterator[None]:
    """Exit with status 141 when the reader of stdout has ended, such as `head`."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it at its end
        sys.exit(CLOSED_PIPE)


def end_with_parent() -> None:
    """End this process when its parent has ended: otherwise it would wait for the first process for half an hour."""
    parent = os.getppid()
    # Lightning and torchrun set LOCAL_RANK, and have this program in their command line. If they have ended already,
    # the parent is another program.
    if "LOCAL_RANK" in os.environ and not _runs_this_program(parent):
        os._exit(1)

    # Polled, since Linux's PR_SET_PDEATHSIG has no counterpart on macOS.
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _runs_this_program(process: int) -> bool:
    try:
        return any(Path(word).name == Path(sys.argv[0]).name for word in psutil.Process(process).cmdline())
    except psutil.Error:
        return False

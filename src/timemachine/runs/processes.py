"""Which process this is: the first of a run, one that a sweep has started, one that a signal ends."""

import functools
import multiprocessing
import os
import signal
import threading
import time
from types import FrameType


def is_first_process() -> bool:
    """Return whether this process writes and prints for a run: torchrun's, Lightning's and srun's variables tell.

    Lightning has the same test, and takes seconds to import.
    """
    return not any(int(os.environ.get(rank, 0)) for rank in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


GRACE = 10  # seconds that a job has to end in order
SWEEP = "TIMEMACHINE_SWEEP"  # in the environment of a job that is a program of its own: the process that started it


def is_job() -> bool:
    """Return whether a sweep has started this process beside its own: joblib's worker or a program of its own."""
    return multiprocessing.parent_process() is not None or os.environ.get(SWEEP) == str(os.getppid())


@functools.cache  # a worker of joblib's runs several jobs
def end_with_parent() -> None:
    """End this process, in order if it can, once its parent has ended: a sweep that is killed cannot end its jobs."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)  # joblib's worker outlives its job's orderly end
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Signalled(SystemExit):
    """Ctrl-C, SIGTERM, SIGHUP, or SIGUSR1, by which Slurm announces the end of a job's time.

    The exit status is the shell's for it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number, self.name = number, signal.Signals(number).name


def end_in_order() -> None:
    """Let SIGTERM and SIGHUP raise Signalled where they would end this process at once; the next one does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _raise)


def _raise(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise Signalled(number)

"""Which process this is: the first of a run, or one that a sweep has started; and the signals that interrupt it."""

import functools
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from types import FrameType


def is_first_process() -> bool:
    """Return whether this process writes and prints for a run: torchrun's, Lightning's and srun's variables tell.

    Lightning has the same test, and takes seconds to import.
    """
    return not any(int(os.environ.get(rank, 0)) for rank in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def is_requeued() -> bool:
    """Return whether Slurm has started this job again: its runs may have begun before."""
    return int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0


GRACE = 10  # seconds that a job has to end in order
SWEEP = "TIMEMACHINE_SWEEP"  # in the environment of a job that is a separate program: the process that started it


def is_job() -> bool:
    """Return whether a sweep has started this process: a worker of joblib or a separate program."""
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


def interrupt_on_signals() -> None:
    """Let SIGTERM and, in a job of Slurm, SIGUSR1 raise KeyboardInterrupt, as SIGINT (Ctrl-C) does.

    By SIGUSR1 Slurm announces the end of a job's time (`sbatch --signal=USR1@60`): the job is requeued. A signal that
    somebody else handles or ignores, such as Submitit, stays as it is.
    """
    handlers = {signal.SIGTERM: interrupt}
    if "SLURM_JOB_ID" in os.environ:
        handlers[signal.SIGUSR1] = _requeue
    for number, handler in handlers.items():
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, handler)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt: a handler of signals."""
    raise KeyboardInterrupt


def _requeue(number: int, frame: FrameType | None) -> None:
    if is_first_process():
        subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=False)
    raise KeyboardInterrupt

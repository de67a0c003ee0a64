"""Find out whether a process is the first of a run or the job of a sweep; handle the signals that interrupt it."""

import functools
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from types import FrameType


def is_first_process() -> bool:
    """Return whether this process writes and prints for a run.

    torchrun, Lightning and srun tell its rank in environment variables. Lightning has the same test, but importing it
    takes seconds.
    """
    return not any(int(os.environ.get(rank, 0)) for rank in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def is_requeued() -> bool:
    """Return whether Slurm has restarted this job, so that its runs may have begun before."""
    return int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0


GRACE = 10  # seconds for a job to end in an orderly way
# Environment variable of a job that runs as a separate program: the id of the sweep's process, which started it.
SWEEP = "TIMEMACHINE_SWEEP"


def is_job() -> bool:
    """Return whether a sweep has started this process, as a worker of joblib or a separate program."""
    return multiprocessing.parent_process() is not None or os.environ.get(SWEEP) == str(os.getppid())


@functools.cache  # a worker of joblib's runs several jobs
def end_with_parent() -> None:
    """End this process when its parent has ended: the sweep of a job, or what started a further process of a run.

    A killed sweep cannot end its jobs. A process that has not yet connected to the first one of its run would wait for
    it until PyTorch's timeout, half an hour. SIGTERM lets this process end in an orderly way. After `GRACE` seconds it
    exits.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)  # a worker of joblib outlives the orderly end of its job
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def interrupt_on_signals() -> None:
    """Let SIGTERM and, in a job of Slurm, SIGUSR1 raise KeyboardInterrupt, as SIGINT (Ctrl-C) does.

    Slurm announces the end of a job's time limit with SIGUSR1 (`sbatch --signal=USR1@60`); then the job is requeued.
    Signals that already have a handler, such as Submitit's, or are ignored, are not changed.
    """
    handlers = {signal.SIGTERM: interrupt}
    if "SLURM_JOB_ID" in os.environ:
        handlers[signal.SIGUSR1] = _requeue
    for number, handler in handlers.items():
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, handler)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, as a signal handler."""
    raise KeyboardInterrupt


def _requeue(number: int, frame: FrameType | None) -> None:
    if is_first_process():
        subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=False)
    raise KeyboardInterrupt

"""Which process this is: the first of a run, one that a sweep has started, one that a signal ends."""

import os
import signal


def is_first_process() -> bool:
    """Whether this is the process that writes and speaks for a run: torchrun's, Lightning's and srun's variables say.

    Lightning has the same test, and takes seconds to import.
    """
    return not any(int(os.environ.get(rank, 0)) for rank in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


SWEEP = "TIMEMACHINE_SWEEP"  # in the environment of a job that is a process of its own: the process that started it


def is_job() -> bool:
    """Whether a sweep has started this process."""
    return os.environ.get(SWEEP) == str(os.getppid())


class Signalled(SystemExit):
    """Ctrl-C, SIGTERM, SIGHUP, or SIGUSR1, by which Slurm announces the end of a job's time.

    The exit status is the shell's for it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number, self.name = number, signal.Signals(number).name

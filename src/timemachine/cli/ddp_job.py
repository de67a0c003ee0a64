"""A job of a sweep that takes several processes: train.py anew, as a program of its own, in the job's folder.

Lightning starts each process with the command line of the first, so that each would run the whole sweep; and when one
dies it kills the first, which would be the sweep.
"""

import math
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from timemachine.cli.quoting import quoted
from timemachine.config import REPOSITORY, Trainer
from timemachine.runs.processes import SWEEP, Signalled
from timemachine.runs.resuming import begin_anew
from timemachine.runs.sweep import summary_or_failure

PATIENCE = 30  # seconds that a job has to end in order


def takes_processes(trainer: Trainer) -> bool:
    """Whether a run with these settings may be more than one process."""
    return trainer.strategy != "auto" or trainer.num_nodes != 1 or trainer.devices not in (1, "1")


def run(folder: Path, number: int, overrides: Sequence[str], is_resumed: bool) -> float:
    """Run the job and wait for it. Returns its validation perplexity; infinity where it failed, and says why.

    It starts with this process's environment, but for Slurm's account of that, and nothing else of an earlier job.
    """
    own = [override for override in overrides if not override.startswith("resume=")]
    command = [sys.executable, str(REPOSITORY / "train.py"), *own]
    command += ["hydra.mode=RUN", f"hydra.run.dir={quoted(str(folder))}", f"hydra.job.num={number}"]
    if is_resumed and (folder / "checkpoints" / "last.ckpt").exists():
        command.append(f"resume={folder}")
    elif is_resumed:
        begin_anew(folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    environment[SWEEP] = str(os.getpid())
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        process_group=0,  # or Ctrl-C would come to the job twice: from the terminal and from here
    ) as job:
        try:
            _, errors = job.communicate()
        except (KeyboardInterrupt, Signalled) as end:
            job.send_signal(end.number if isinstance(end, Signalled) else signal.SIGINT)
            try:
                job.communicate(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                job.kill()
            raise
    summary = summary_or_failure(folder)
    told = f"error: {' '.join(str(summary['message']).split())}"  # below; others it could not write down
    sys.stderr.writelines(line for line in errors.splitlines(True) if not line.startswith(told))
    if job.returncode:
        print(f"job {folder.name}: {summary['status']}: {summary['message']}", file=sys.stderr)
    return float(summary["metrics"].get("val/perplexity", math.inf))

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
from timemachine.runs.processes import SWEEP
from timemachine.runs.resuming import begin_anew
from timemachine.runs.sweep import summary_or_failure


def takes_processes(trainer: Trainer) -> bool:
    """Return whether a run with these settings may be more than one process."""
    return trainer.strategy != "auto" or trainer.num_nodes != 1 or trainer.devices not in (1, "1")


def run(folder: Path, overrides: Sequence[str], is_resumed: bool) -> float:
    """Run the job and wait for it. Return its validation perplexity; inf if it failed, and print why.

    Its environment is this process's, without Slurm's variables, which describe this process and not the job.
    """
    command = [sys.executable, str(REPOSITORY / "train.py")]
    command += [override for override in overrides if not override.startswith("resume=")]
    command += ["hydra.mode=RUN", f"hydra.run.dir={quoted(str(folder))}"]
    if is_resumed and (folder / "checkpoints" / "last.ckpt").exists():
        command.append(f"resume={folder}")
    elif is_resumed:
        begin_anew(folder)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    environment[SWEEP] = str(os.getpid())
    # In a process group of its own: otherwise Ctrl-C would reach the job twice, from the terminal and from here.
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, process_group=0) as job:
        try:
            job.wait()
        except (KeyboardInterrupt, SystemExit):
            job.send_signal(signal.SIGINT)
            job.wait()
            raise
    summary = summary_or_failure(folder)
    if summary["status"] == "failed":
        print(f"job {folder.name}: failed: {summary['message']}", file=sys.stderr)
    return float(summary["metrics"].get("val/perplexity", math.inf))

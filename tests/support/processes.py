"""Run train.py with all its child processes, for tests that kill it."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.programs import DEADLINE
from timemachine.config import REPOSITORY


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


class Running:
    """A running train.py with its processes."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.output, self.errors = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, str(REPOSITORY / "train.py"), *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.errors,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs of a shell ignore it
        )

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition. It must hold before the program ends."""
        wait_until(lambda: condition() or self.process.poll() is not None)
        assert condition(), self.ended()

    def ended(self) -> tuple[int, str, str]:
        """Wait for the end; return the exit status, stdout and stderr."""
        status = self.process.wait(DEADLINE)
        for file in (self.output, self.errors):
            file.seek(0)
        return status, self.output.read(), self.errors.read()

    def processes(self) -> dict[int, str]:
        """Return the command line of each process in its session, by process ID."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.process.pid and state != "Z":
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:  # the process has ended
                continue
        return found

    def wait_for_its_processes(self) -> None:
        wait_until(lambda: not self.processes())


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[Running]:
    found = Running(folder, *arguments)
    try:
        yield found
    finally:
        for number in found.processes():
            os.kill(number, signal.SIGKILL)
        found.process.wait(DEADLINE)
        found.output.close()
        found.errors.close()

"""train.py while it runs, for tests that end it, and all processes that it has started."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.warm import Warm
from timemachine.config import REPOSITORY


class Running:
    """train.py, with what it has said, and all processes that it has started."""

    def __init__(self, process: Warm, folder: Path) -> None:
        self.process = process
        self.folder = folder

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert self.process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)

    def ended(self) -> tuple[int, str, str]:
        """Exit status, stdout, stderr."""
        output, errors = self.process.communicate(timeout=60)
        return self.process.wait(), output, errors

    def processes(self) -> dict[int, str]:
        """Those of its session that are there: number -> command line."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.process.pid and state != "Z":
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:  # it has gone
                continue
        return found

    def wait_for_its_processes(self) -> None:
        """They end by themselves."""
        deadline = time.monotonic() + 10
        while self.processes():
            assert time.monotonic() < deadline, self.processes()
            time.sleep(0.05)


@contextmanager
def running(folder: Path, *arguments: str) -> Iterator[Running]:
    process = Warm([str(REPOSITORY / "train.py"), *arguments], folder, dict(os.environ), start_new_session=True)
    found = Running(process, folder)
    try:
        yield found
    finally:
        for number in found.processes():
            os.kill(number, signal.SIGKILL)
        process.communicate()

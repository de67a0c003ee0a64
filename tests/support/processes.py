"""train.py while it runs, for tests that end it, and all processes that it has started."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.programs import DEADLINE
from tests.support.warm import Warm
from timemachine.config import REPOSITORY


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


class Running:
    """train.py, with what it has said, and all processes that it has started."""

    def __init__(self, process: Warm, folder: Path) -> None:
        self.process = process
        self.folder = folder

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """It has not ended before."""
        wait_until(lambda: condition() or self.process.poll() is not None)
        assert condition(), self.process.communicate()

    def ended(self) -> tuple[int, str, str]:
        """Exit status, stdout, stderr."""
        output, errors = self.process.communicate(DEADLINE)
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
        wait_until(lambda: not self.processes())


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

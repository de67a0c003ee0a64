"""A fork server for programs, which saves the seconds that `python train.py` takes to import its libraries.

Forks differ only in the variables PYTHON… and OMP_…, which Python and torch read at startup; `can_fork` compares them.
With the server, tests that start programs take less than half of the time.
"""

import atexit
import functools
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType

from timemachine.config import REPOSITORY


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(("PYTHON", "OMP_"))}


SERVERS_VARIABLES = _read_at_start(os.environ | {"OMP_NUM_THREADS": "1"})


def can_fork(environment: Mapping[str, str]) -> bool:
    """Return whether a program with this environment may be forked."""
    return _read_at_start(environment) == SERVERS_VARIABLES


class Warm:
    """A running program, with the methods of `subprocess.Popen` that the tests need."""

    def __init__(
        self, command: list[str], cwd: Path, environment: dict[str, str], start_new_session: bool = False
    ) -> None:
        self.command = command
        self.returncode: int | None = None
        self._folder = Path(tempfile.mkdtemp(dir=_outputs()))
        os.mkfifo(self._folder / "status")
        request = [command, str(cwd), environment, str(self._folder), start_new_session]
        print(json.dumps(request), file=_server(environment.get("LD_PRELOAD")).stdin, flush=True)
        self._status = (self._folder / "status").open()
        self.pid = int(self._status.readline())

    def poll(self) -> int | None:
        """Return the exit status, or None while running."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for the end; return the exit status. Raise TimeoutExpired."""
        if self.returncode is None:
            poll = select.poll()  # `select` has no descriptor above 1,023
            poll.register(self._status, select.POLLIN)
            if not poll.poll(timeout * 1000):
                raise subprocess.TimeoutExpired(self.command, timeout)
            self.returncode = int(self._status.readline())
            self._status.close()
        return self.returncode

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Wait for the end; return the text of stdout and of stderr. Raise TimeoutExpired."""
        self.wait(timeout)
        return (self._folder / "stdout").read_text(), (self._folder / "stderr").read_text()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the program has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


@functools.cache
def _outputs() -> str:
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return folder.name


@functools.cache
def _server(preloaded: str | None) -> "subprocess.Popen[str]":
    """Start the server, one for each library that is loaded at the start of a program."""
    command = [sys.executable, "-m", "tests.support.warm"]
    environment = os.environ | SERVERS_VARIABLES | ({} if preloaded is None else {"LD_PRELOAD": preloaded})
    process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=environment, cwd=REPOSITORY)
    atexit.register(process.kill)
    return process


def serve() -> None:
    """Fork for each request on stdin. Return only in a fork, after its program has ended."""
    import hydra  # noqa: F401
    import lightning.pytorch  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import torchmetrics  # noqa: F401

    while request := sys.stdin.readline():
        if os.fork() == 0:
            _execute(*json.loads(request))
            return
        with suppress(ChildProcessError):  # there are no children
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _execute(command: list[str], cwd: str, environment: dict[str, str], folder: str, new_session: bool) -> None:
    """Fork again: the child executes the program, the parent writes the child's ID and exit status to a file."""
    if number := os.fork():
        with Path(folder, "status").open("w") as status:
            print(number, file=status, flush=True)
            print(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]), file=status)
        os._exit(0)
    if new_session:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background processes of a shell inherit SIG_IGN
    for file, path in enumerate([os.devnull, f"{folder}/stdout", f"{folder}/stderr"]):
        opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, file)
        os.close(opened)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = command, str(Path(command[0]).parent)
        main = sys.modules["__main__"] = ModuleType("__main__")  # runpy would remove the module too early
        main.__file__ = command[0]
        exec(compile(Path(command[0]).read_text(), command[0], "exec"), vars(main))


if __name__ == "__main__":
    serve()

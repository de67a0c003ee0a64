"""Programs in processes of their own that begin with what takes seconds to import: forks of one that waits.

A fork is what `python train.py` would be once its libraries are imported, but for the variables PYTHON… and OMP_…,
which Python and torch read at their start (`knows`).
"""

import atexit
import functools
import gc
import json
import os
import runpy
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from timemachine.config import REPOSITORY


def _read_at_the_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(("PYTHON", "OMP_"))}


AS_IT_WAS = _read_at_the_start(os.environ | {"OMP_NUM_THREADS": "1"})


def knows(environment: Mapping[str, str]) -> bool:
    """Whether a fork is what a program would be that is started with these variables."""
    return _read_at_the_start(environment) == AS_IT_WAS


class Warm:
    """A Python program that has been started: what tests need of `subprocess.Popen`."""

    def __init__(
        self, command: list[str], cwd: Path, environment: dict[str, str], start_new_session: bool = False
    ) -> None:
        self.command = command
        self.returncode: int | None = None
        self._outputs: tuple[str, str] | None = None
        self._folder = Path(tempfile.mkdtemp())
        os.mkfifo(self._folder / "status")
        request = [command, str(cwd), environment, str(self._folder), start_new_session]
        print(json.dumps(request), file=_waiting(environment.get("LD_PRELOAD")).stdin, flush=True)
        self._status = (self._folder / "status").open()
        self.pid = int(self._status.readline())

    def poll(self) -> int | None:
        """The exit status, None before the end."""
        return self.returncode if self.returncode is not None or not self._has_ended(0) else self.wait()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return the exit status. Raises TimeoutExpired."""
        if self.returncode is None:
            if not self._has_ended(timeout):
                raise subprocess.TimeoutExpired(self.command, timeout or 0)
            self.returncode = int(self._status.readline())
            self._status.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; return what was written to stdout and stderr. Raises TimeoutExpired."""
        self.wait(timeout)
        if self._outputs is None:
            self._outputs = (self._folder / "stdout").read_text(), (self._folder / "stderr").read_text()
            shutil.rmtree(self._folder)
        return self._outputs

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def _has_ended(self, timeout: float | None) -> bool:
        poll = select.poll()  # select itself knows no descriptor above 1,023
        poll.register(self._status, select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))


@functools.cache
def _waiting(preloaded: str | None) -> "subprocess.Popen[str]":
    """The process that waits, one for each library that is loaded as a program starts."""
    command = [sys.executable, "-m", "tests.support.warm"]
    environment = os.environ | AS_IT_WAS | ({} if preloaded is None else {"LD_PRELOAD": preloaded})
    process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=environment, cwd=REPOSITORY)
    atexit.register(process.kill)
    return process


def _wait() -> None:
    """Fork for each request on stdin."""
    import hydra  # noqa: F401
    import lightning.pytorch  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import torchmetrics  # noqa: F401

    gc.freeze()
    while request := sys.stdin.readline():
        if os.fork() == 0:
            _start(*json.loads(request))
        with suppress(ChildProcessError):  # none is left
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _start(command: list[str], cwd: str, environment: dict[str, str], folder: str, new_session: bool) -> NoReturn:
    """In one fork wait for the other, and write its number and exit status to a file; in that, execute the program."""
    if number := os.fork():
        with Path(folder, "status").open("w") as status:
            print(number, file=status, flush=True)
            print(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]), file=status)
        os._exit(0)
    if new_session:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, by inheritance, in a shell's background
    writes = os.O_WRONLY | os.O_CREAT
    for file, (path, flags) in enumerate([(os.devnull, 0), (f"{folder}/stdout", writes), (f"{folder}/stderr", writes)]):
        opened = os.open(path, flags, 0o600)
        os.dup2(opened, file)
        os.close(opened)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    _end(_execute(command))


def _execute(command: list[str]) -> int:
    """Execute the program; print what Python prints of an exception, and return the exit status, -2 for SIGINT."""
    try:
        if command[0] == "-m":
            sys.argv = command[1:]
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[0] = command, str(Path(command[0]).parent)
            main = sys.modules["__main__"] = ModuleType("__main__")  # runpy would take it away before the end
            main.__file__ = command[0]
            exec(compile(Path(command[0]).read_text(), command[0], "exec"), vars(main))
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code & 0xFF if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _end(status: int) -> NoReturn:
    """End the process as Python does, but free nothing: libraries call the objects leaked that `_wait` has frozen."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as multiprocessing does in its forks
        atexit._run_exitfuncs()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        if status < 0:
            signal.signal(-status, signal.SIG_DFL)
            os.kill(os.getpid(), -status)
        os._exit(status)


if __name__ == "__main__":
    _wait()

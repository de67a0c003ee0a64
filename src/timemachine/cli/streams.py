"""Standard output and standard error that may be closed, a pipe that nobody reads, or a file on a full disk.

A run is worth more than what it prints: it goes on without, and says so once on standard error. A program that does
nothing but print ends with its reader, without a word, or with one line that says why.
"""

import errno
import io
import os
import sys
from typing import Any, TextIO

from timemachine.errors import UserError
from timemachine.runs.processes import is_first_process, is_job

_in_run = False


class Stream(io.FileIO):
    """A standard stream that drops what it cannot write, and says so once."""

    told = False

    def write(self, data: Any, /) -> int:
        """Write the bytes, or drop them."""
        try:
            return super().write(data)
        except OSError as error:
            if not self.told:
                self.told = True
                _lost(self.fileno(), error)
            return len(data)


def _lost(number: int, error: OSError) -> None:
    """Say that standard output is lost, if it is; end the program unless a run is under way."""
    if number != 1:
        return
    if not _in_run and error.errno == errno.EPIPE:  # such as `| head`: its reader has seen enough
        sys.exit()
    reason = f"standard output: {error.strerror}"
    if not _in_run:
        raise UserError(f"{reason}; type > and a file that can be written")
    if is_first_process() and not is_job():  # others share it
        print(f"{reason}; the run goes on without it", file=sys.stderr)


def say_that_imports_take_seconds() -> None:
    """Print a line on a terminal, unless another process does that for this one."""
    if sys.stderr.isatty() and is_first_process() and not is_job():
        print("importing PyTorch and Lightning …", file=sys.stderr, flush=True)


def guard_streams() -> None:
    """Put a `Stream` under standard output and standard error, unless something else stands in for them already."""
    if sys.stdout is sys.__stdout__:
        sys.stdout = _guarded(1, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _guarded(2, sys.stderr)


def go_on_without_output() -> None:
    """Let nothing that cannot be printed end the program from now on, as a run is under way."""
    global _in_run
    _in_run = True
    guard_streams()  # of a process that a launcher has started


def _guarded(number: int, stream: TextIO | None) -> io.TextIOWrapper:
    if stream is None:  # closed: no file that is opened later shall take its number
        os.dup2(os.open(os.devnull, os.O_RDONLY), number)
    return io.TextIOWrapper(
        io.BufferedWriter(Stream(number, "w", closefd=False)),
        encoding=getattr(stream, "encoding", "utf-8"),
        errors=getattr(stream, "errors", "backslashreplace"),
        line_buffering=getattr(stream, "line_buffering", True),
        write_through=getattr(stream, "write_through", False),
    )

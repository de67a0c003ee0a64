"""Standard output and error that cannot be written, on a full disk or without a reader: a program goes on without."""

import errno
import io
import os
import sys
from typing import Any


class Output(io.FileIO):
    """A stream that becomes the null device once it cannot be written."""

    lost = False  # whether it is standard output, and something else than its reader has ended it

    def write(self, data: Any, /) -> int:
        """Write the bytes, or drop them."""
        try:
            return super().write(data)
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if self.fileno() == 1 and error.errno != errno.EPIPE:
                Output.lost = True
                print(f"standard output: {error.strerror}; the program goes on without it", file=sys.stderr)
            return len(data)


def go_on_without_output() -> None:
    """Put an `Output` under standard output and standard error. A character that their encoding lacks becomes "?"."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):  # a test's or a notebook's own
            continue
        if stream is None:  # closed: no file that is opened later may take its number
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
        encoding, by_line = (stream.encoding, stream.line_buffering) if stream else ("utf-8", True)
        raw = io.BufferedWriter(Output(number, "w", closefd=False))
        setattr(sys, name, io.TextIOWrapper(raw, encoding, "replace", line_buffering=by_line))

"""From what a user types to checked settings, and from a mistake to one line.

The programs import this package first: until `signals` takes over, Ctrl-C ends the imports that follow without a
traceback.
"""

import os
import sys
import types


def _end_quietly(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
    """Say of Ctrl-C what `signals` says of it; show any other error as Python does."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    os.write(2, b"interrupted\n")
    os._exit(130)


sys.excepthook = _end_quietly

if sys.platform == "win32":
    # What is left to do there: a process keeps its parent's number, so a job does not notice that its sweep has ended;
    # no other process can be asked to end in order; and no test has run.
    sys.exit("error: Windows by itself is not supported yet; type the same in WSL, or use the classes as in book.ipynb")

"""From what a user types to checked settings, and from a mistake to one line."""

import sys
import types

if sys.platform == "win32":
    sys.exit("error: Windows by itself is not supported yet; type the same in WSL, or use the classes as in book.ipynb")


def _show(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
    """Show an uncaught error as Python does, but Ctrl-C without a traceback."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _show  # the programs import this package first: it holds during the imports that follow

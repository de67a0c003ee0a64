"""From what a user types to checked settings, and from a mistake to one line."""

import sys

if sys.platform == "win32":
    # What is left to do there: a process keeps its parent's number, so a job does not notice that its sweep has ended;
    # no other process can be asked to end in order; and no test has run.
    sys.exit("error: Windows by itself is not supported yet; type the same in WSL, or use the classes as in book.ipynb")

"""From what a user types to checked settings, and from a mistake to one line."""

import sys

if sys.platform == "win32":
    sys.exit("error: Windows by itself is not supported yet; type the same in WSL, or use the classes as in book.ipynb")

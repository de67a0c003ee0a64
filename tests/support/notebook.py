"""book.ipynb, executed. `python -m tests.support.notebook` executes it where it lies, for a commit."""

from typing import Any

import nbformat
from nbclient import NotebookClient

from timemachine.config import REPOSITORY

BOOK = REPOSITORY / "book.ipynb"


def executed(notebook: Any) -> Any:
    """Execute all cells in a new kernel, in the repository's folder. Raise CellExecutionError where one fails."""
    folder = {"metadata": {"path": str(REPOSITORY)}}
    NotebookClient(notebook, timeout=300, resources=folder, coalesce_streams=True, record_timing=False).execute()
    notebook.metadata.language_info = {"name": "python"}  # without the version
    return notebook


def printed(notebook: Any) -> list[str]:
    """Return what each cell of code has printed."""
    return ["".join(o.text for o in c.outputs if o.output_type == "stream") for c in notebook.cells if "outputs" in c]


if __name__ == "__main__":
    nbformat.write(executed(nbformat.read(BOOK, 4)), BOOK)

"""Execute book.ipynb. `python -m tests.support.notebook` executes it in place, before a commit."""

import re
from itertools import pairwise
from typing import Any

import nbformat
from nbclient import NotebookClient

from timemachine.config import REPOSITORY

BOOK = REPOSITORY / "book.ipynb"
ANSWER = re.compile(r"(?<=<summary>Answer</summary>\n\n```text\n).*?(?=```\n)", re.DOTALL)


def executed(notebook: Any, coalesce_streams: bool = True) -> Any:
    """Execute all cells in a new kernel, in the repository's folder. Raise CellExecutionError if one fails.

    The output of an exercise goes into the folded answer above it, so that readers try before they see it.
    `coalesce_streams` removes output that a progress bar has overwritten with carriage returns.
    """
    folder = {"metadata": {"path": str(REPOSITORY)}}
    client = NotebookClient(
        notebook, timeout=300, resources=folder, coalesce_streams=coalesce_streams, record_timing=False
    )
    client.execute()
    for question, cell in pairwise(notebook.cells):
        if ANSWER.search(question.source):
            question.source = ANSWER.sub(streams(cell).replace("\\", r"\\"), question.source)
            cell.outputs = []
        for output in cell.get("outputs", []):
            if "text/plain" in output.get("data", {}):
                output.data["text/plain"] = re.sub(" at 0x[0-9a-f]+", "", output.data["text/plain"])
    notebook.metadata.language_info = {"name": "python"}  # without the version
    return notebook


def streams(cell: Any) -> str:
    """Return the printed output of a code cell."""
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def printed(notebook: Any) -> list[str]:
    """Return the printed output of each cell. The output of an exercise is in the cell of its question."""
    return [streams(c) if c.cell_type == "code" else "".join(ANSWER.findall(c.source)) for c in notebook.cells]


if __name__ == "__main__":
    nbformat.write(executed(nbformat.read(BOOK, 4)), BOOK)

"""Execute book.ipynb in place, before a commit: make notebook."""

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

    The output of an exercise goes into the folded answer below it, so that readers guess before they see it.
    `coalesce_streams` removes output that a progress bar has overwritten with carriage returns.
    """
    folder = {"metadata": {"path": str(REPOSITORY)}}
    client = NotebookClient(
        notebook, timeout=300, resources=folder, coalesce_streams=coalesce_streams, record_timing=False
    )
    client.execute()
    for cell, answer in pairwise(notebook.cells):
        if ANSWER.search(answer.source):
            answer.source = ANSWER.sub(streams(cell).replace("\\", r"\\"), answer.source)
            cell.outputs = []
        for output in cell.get("outputs", []):
            if "text/plain" in output.get("data", {}):
                output.data["text/plain"] = re.sub(" at 0x[0-9a-f]+", "", output.data["text/plain"])
    notebook.metadata.language_info = {"name": "python"}  # without the version
    return notebook


def streams(cell: Any) -> str:
    """Return the printed output of a code cell."""
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


if __name__ == "__main__":
    notebook = nbformat.read(BOOK, 4)  # type: ignore[no-untyped-call]
    nbformat.write(executed(notebook), BOOK)  # type: ignore[no-untyped-call]

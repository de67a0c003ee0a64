"""book.ipynb runs from top to bottom and reproduces the committed numbers.

`python -m tests.test_notebook` executes it in place, before a commit.
"""

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.runs import table
from timemachine.config import REPOSITORY

BOOK = REPOSITORY / "book.ipynb"
ANSWER = re.compile(r"(?<=<summary>Answer</summary>\n\n```text\n).*?(?=```\n)", re.DOTALL)
NUMBER = r"\d+\.\d+"


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


def committed() -> Any:
    return nbformat.read(BOOK, 4)


def test_notebook_is_small_and_executed() -> None:
    cells = [cell for cell in committed().cells if cell.cell_type == "code"]
    assert BOOK.stat().st_size < 300_000
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


def test_notebook_numbers_are_those_of_train() -> None:
    reference = next(row for row in table(REPOSITORY / "sweeps/reference/book/summary.csv") if row["seed"] == "0")
    text = "\n".join(printed(committed()))
    (found,) = re.findall(rf"epoch 100: train ({NUMBER}), validation ({NUMBER})", text)
    (rest,) = re.findall(rf"window by window: ({NUMBER})", text)
    theirs = [float(reference[f"{split}/perplexity"]) for split in ("train", "val", "test")]
    assert [float(number) for number in (*found, rest)] == pytest.approx(theirs, rel=2e-3)


@pytest.mark.slow
def test_notebook_reproduces_its_numbers(novels: Path) -> None:
    """Rounding depends on the processor. Numbers are printed with two decimals."""
    notebook = executed(committed(), coalesce_streams=False)
    theirs, ours = printed(committed()), printed(notebook)
    for cell, (expected, found) in enumerate(zip(theirs, ours, strict=True), 1):
        numbers = [[float(number) for number in re.findall(NUMBER, text)] for text in (expected, found)]
        assert numbers[1] == pytest.approx(numbers[0], rel=1e-3, abs=0.0101), f"cell {cell}:\n{found}"
        words = [re.sub(NUMBER, "", text) for text in (expected, found)]
        if "alpha" not in expected and "it has" not in expected:  # texts may differ if characters are equally likely
            assert words[1] == words[0], f"cell {cell}"


if __name__ == "__main__":
    nbformat.write(executed(committed()), BOOK)

"""book.ipynb runs from top to bottom and reproduces the committed numbers; `make lab` leaves out its answers."""

import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.support.programs import Program, assert_succeeded
from tests.support.runs import table
from timemachine.config import REPOSITORY
from tools.notebook import ANSWER, BOOK, executed, streams

NUMBER = r"\d+\.\d+"


def printed(notebook: Any) -> list[str]:
    """Return the printed output of each cell. The output of an exercise is in its answer."""
    return [streams(c) if c.cell_type == "code" else "".join(ANSWER.findall(c.source)) for c in notebook.cells]


def committed() -> Any:
    return nbformat.read(BOOK, 4)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_notebook_is_small_and_executed() -> None:
    counts = [cell.execution_count for cell in code_cells(committed())]
    assert BOOK.stat().st_size < 300_000
    assert counts == list(range(1, len(counts) + 1))


def test_notebook_numbers_are_those_of_train() -> None:
    reference = next(row for row in table(REPOSITORY / "sweeps/reference/book/summary.csv") if row["seed"] == "0")
    text = "\n".join(printed(committed()))
    (found,) = re.findall(rf"epoch 100: train ({NUMBER}), validation ({NUMBER})", text)
    (rest,) = re.findall(rf"window by window: ({NUMBER})", text)
    theirs = [float(reference[f"{split}/perplexity"]) for split in ("train", "val", "test")]
    assert [float(number) for number in (*found, rest)] == pytest.approx(theirs, rel=2e-3)


def test_code_fits_the_page() -> None:
    lines = [line for cell in code_cells(committed()) for line in cell.source.splitlines()]
    assert max(map(len, lines)) <= 88


def checks(notebook: Any) -> list[str]:
    """Return the results of the checks of a student's code."""
    return re.findall(r": ((?:NOT )?the same)$", "\n".join(map(streams, code_cells(notebook))), re.MULTILINE)


@pytest.fixture
def lab(tmp_path: Path, program: Program) -> Path:
    """Return a folder in which `make lab` has written both notebooks."""
    (tmp_path / "tools").mkdir()
    for name in ("tools/lab.py", "book.ipynb"):
        shutil.copy(REPOSITORY / name, tmp_path / name)
    assert_succeeded(program("-m", "tools.lab"))
    return tmp_path / "outputs/lab"


def test_lab_has_no_answers_but_their_checks(lab: Path) -> None:
    """Without the students' code every cell before the training runs, and every check fails."""
    students = nbformat.read(lab / "book.ipynb", 4)
    assert not any(cell.outputs for cell in code_cells(students))
    assert "<summary>Answer" not in "".join(cell.source for cell in students.cells)
    training = next(place for place, cell in enumerate(students.cells) if cell.source.startswith("## Training"))
    students.cells = students.cells[:training]
    found = checks(executed(students))
    assert len(found) > 10 and set(found) == {"NOT the same"}
    assert set(checks(committed())) == {"the same"} and checks(committed())[: len(found)] == ["the same"] * len(found)


def test_lab_for_teachers(lab: Path) -> None:
    teachers = nbformat.read(lab / "answers.ipynb", 4)
    assert [cell.outputs for cell in code_cells(teachers)] == [cell.outputs for cell in code_cells(committed())]
    links = re.findall(r"\]\((?!https?:)([^)#]+)", "\n".join(cell.source for cell in teachers.cells))
    assert links and all(link.startswith("../../") for link in links)


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

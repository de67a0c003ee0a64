"""make lab: write book.ipynb to outputs/lab, for students without the answers and for teachers with them.

An answer is a cell tagged `answer`. Of its code, students get the functions' signatures and docstrings.
"""

import ast
import json
import re
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
LAB = REPOSITORY / "outputs/lab"
LINK = re.compile(r"\]\((?!https?:|#)")  # to a file, relative to the repository
TASK = """\
**Lab.** Replace each `...` with your own lines, run the cell and then the check that follows: it prints "the same" once
they are right. Parts that you leave out do not stop the rest. Below each exercise, write your answer.
"""


def without_answer(source: str) -> str:
    """Return code in which functions with a docstring have no body."""
    lines = source.splitlines()
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    for function in sorted(functions, key=lambda node: -node.lineno):  # from the end, so that line numbers stay
        if ast.get_docstring(function):
            first = function.body[0].end_lineno
            lines[first : function.end_lineno] = [" " * function.body[0].col_offset + "...  # your lines"]
    return "\n".join(lines)


def notebook(answers: bool) -> dict[str, Any]:
    """Return the notebook for teachers, or for students: without answers and outputs."""
    book: dict[str, Any] = json.loads((REPOSITORY / "book.ipynb").read_text(encoding="utf-8"))
    for cell in book["cells"]:
        source, is_code = "".join(cell["source"]), cell["cell_type"] == "code"
        if not answers and "answer" in cell["metadata"].get("tags", ()):
            source = without_answer(source) if is_code else "*Your answer:*"
        if not answers and is_code:
            cell |= {"execution_count": None, "outputs": []}
        up = "../" * len(LAB.relative_to(REPOSITORY).parts)
        cell["source"] = source if is_code else LINK.sub(f"]({up}", source)
    if not answers:
        book["cells"].insert(1, {"cell_type": "markdown", "id": "lab", "metadata": {}, "source": TASK})
    return book


def main() -> None:
    """Write both notebooks, and print how to open the students'."""
    LAB.mkdir(parents=True, exist_ok=True)
    for name, answers in (("book", False), ("answers", True)):
        text = json.dumps(notebook(answers), indent=1, ensure_ascii=False) + "\n"
        (LAB / f"{name}.ipynb").write_text(text, encoding="utf-8")
    print("for students  outputs/lab/book.ipynb")
    print("for teachers  outputs/lab/answers.ipynb")
    print("to open them  .venv/bin/pip install jupyterlab, then .venv/bin/jupyter lab outputs/lab")


if __name__ == "__main__":
    main()

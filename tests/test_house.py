"""House rules: the imports of each package, and where private names of other libraries may be used."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import Program
from timemachine.config import REPOSITORY

SOURCE = REPOSITORY / "src/timemachine"
# In the order of the data flow: modules import only earlier ones, and `texts`.
LESSON = ["errors", "config", "corpus", "bpe", "vocab", "datamodule", "rnn", "cells", "clipping", "perplexity",
          "language_model", "sampling", "decoding"]  # fmt: skip
COMMANDS = ["report", "dashboard"]
LIBRARIES_OF_THE_LESSON = {"torch", "numpy", "torchmetrics", "lightning"}
HYDRA = {"hydra", "omegaconf"}
IMPORT_HYDRA = {"run/program.py", "run/sweep.py"}  # and the programs
PRIVATE = {"run/checkpoints.py", "run/sweep.py"}  # one file per library: Lightning, Hydra

FILES = sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    """Return the path relative to the package."""
    return path.relative_to(SOURCE).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Yield the full names of all imports in a file, including those for type checking."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def our_files(path: Path) -> set[Path]:
    """Return the project's files that a file imports from."""
    found = set()
    for name in imports(path):
        if name.startswith("timemachine."):
            parts = name.split(".")[1:]
            for place in (SOURCE.joinpath(*parts), SOURCE.joinpath(*parts[:-1])):
                if (file := place.with_suffix(".py")).is_file() or (file := place / "__init__.py").is_file():
                    found.add(file)
                    break
    return found


def test_modules_of_the_root() -> None:
    assert {path.stem for path in SOURCE.glob("*.py")} - {"__init__"} == {*LESSON, *COMMANDS}


@pytest.mark.parametrize("module", [*LESSON, "texts"])
def test_imports_of_the_lesson(module: str) -> None:
    below = {"errors", "config"} if module == "texts" else {*LESSON[: LESSON.index(module)]}
    for path in (SOURCE / module).glob("*.py") if module == "texts" else [SOURCE / f"{module}.py"]:
        for name in imports(path):
            library, *parts = name.split(".")
            is_ours = library == "timemachine"
            is_allowed = parts[0] in below | {"texts"} if is_ours else library in LIBRARIES_OF_THE_LESSON
            is_allowed |= library in sys.stdlib_module_names or name == "pooch"  # downloads
            assert is_allowed, f"{room(path)} imports {name}"


def test_no_import_cycles() -> None:
    imported = {path: our_files(path) - {path} for path in FILES}
    while outside := [
        path
        for path, others in imported.items()
        if not others & imported.keys() or not any(path in others for others in imported.values())
    ]:
        imported = {path: others for path, others in imported.items() if path not in outside}
    assert not imported, sorted(map(room, imported))


def test_who_imports_hydra() -> None:
    found = {room(path) for path in FILES if any(name.split(".")[0] in HYDRA for name in imports(path))}
    assert found == IMPORT_HYDRA


def private_names(path: Path) -> set[str]:
    """Return names with a leading underscore that belong to another library's module or object."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    own = {node.attr for node in attributes if ast.unparse(node.value) in ("self", "cls")}
    own |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    imported = {name for name in imports(path) if re.search(r"(^|\.)_(?!_)", name)}
    used = {ast.unparse(node) for node in attributes if re.match("_(?!_)", node.attr) and node.attr not in own}
    return imported | used


def test_private_names_of_other_libraries() -> None:
    assert {room(path) for path in FILES if private_names(path)} == PRIVATE
    for name in PRIVATE:
        assert re.search(r"tested with \d+\.\d+", (SOURCE / name).read_text(encoding="utf-8")), name


@pytest.mark.slow
def test_files_that_training_executes(program: Program) -> None:
    printed = program("-m", "tests.reader", PYTHONPATH=str(REPOSITORY)).stdout
    counted = re.search(r"(\d+)  lines in (\d+) files", printed)
    assert counted, printed
    assert int(counted[1]) <= 3_950 and int(counted[2]) <= 34

"""House rules: the imports of each package, and the length of what train.py executes."""

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.support.programs import Program
from timemachine.config import REPOSITORY

SOURCE = REPOSITORY / "src/timemachine"
# In the order of the data flow: modules import only earlier ones, and `texts`.
LESSON = ["errors", "config", "corpus", "bpe", "vocab", "datamodule", "rnn", "cells", "clipping", "perplexity",
          "language_model", "sampling", "decoding"]  # fmt: skip
LIBRARIES_OF_THE_LESSON = {"torch", "numpy", "torchmetrics", "lightning"}
HYDRA = {"hydra", "omegaconf"}
IMPORT_HYDRA = {"run/program.py", "study/sweep.py"}  # and the programs

FILES = sorted(SOURCE.rglob("*.py"))
NAMES = (".".join(path.relative_to(SOURCE.parent).with_suffix("").parts) for path in FILES)
MODULES = {name.removesuffix(".__init__"): path for name, path in zip(NAMES, FILES, strict=True)}


def relative(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Yield the full names of all imports in a file, including those for type checking."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_modules_of_the_root() -> None:
    assert {path.stem for path in SOURCE.glob("*.py")} - {"__init__", "__main__"} == {*LESSON}


@pytest.mark.parametrize("module", [*LESSON, "texts"])
def test_imports_of_the_lesson(module: str) -> None:
    below = {"errors", "config"} if module == "texts" else {*LESSON[: LESSON.index(module)]}
    for path in (SOURCE / module).glob("*.py") if module == "texts" else [SOURCE / f"{module}.py"]:
        for name in imports(path):
            library, *parts = name.split(".")
            is_ours = library == "timemachine"
            is_allowed = parts[0] in below | {"texts"} if is_ours else library in LIBRARIES_OF_THE_LESSON
            is_allowed |= library in sys.stdlib_module_names or name == "pooch"  # downloads
            assert is_allowed, f"{relative(path)} imports {name}"


def test_no_import_cycles() -> None:
    """Raise CycleError if there is one."""
    graph = TopologicalSorter[str]()
    for module, path in MODULES.items():
        places = ((name, name.rpartition(".")[0]) for name in imports(path))
        graph.add(module, *({next((it for it in place if it in MODULES), module) for place in places} - {module}))
    graph.prepare()


def test_who_imports_hydra() -> None:
    found = {relative(path) for path in FILES if any(name.split(".")[0] in HYDRA for name in imports(path))}
    assert found == IMPORT_HYDRA


def test_no_private_name_is_imported() -> None:
    """Ruff finds the private attributes of other libraries' objects, SLF001, except in two files."""
    assert not [name for path in FILES for name in imports(path) if re.search(r"(^|\.)_(?!_)", name)]


@pytest.mark.slow
def test_what_training_executes(program: Program) -> None:
    """Its lines, and the functions in docs/code.md, in the order of their first calls."""
    printed = program("-m", "tools.executed", PYTHONPATH=str(REPOSITORY)).stdout
    counted = re.search(r"(\d+)  lines in (\d+) files", printed)
    assert counted, printed
    assert int(counted[1]) <= 4_660 and int(counted[2]) <= 37
    page = (REPOSITORY / "docs/code.md").read_text(encoding="utf-8")
    _, _, section = page.partition("## A run, from the command line")
    described = re.findall(r"\[(\S+\.py)\]\(\S+\) `([\w.]+)`", section.partition("\n## ")[0])
    functions = printed.splitlines()
    places = [functions.index(f"{file}: {name}") for file, name in described]
    assert len(places) > 10 and places == sorted(places)

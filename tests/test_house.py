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
# In the order of the data flow: modules import only earlier ones.
LESSON = ["errors", "config", "corpus", "bpe", "vocab", "datamodule", "rnn", "cells", "clipping", "perplexity",
          "language_model", "decoding"]  # fmt: skip
BELOW_THE_LESSON = ["texts"]
COMMANDS = ["report", "dashboard"]
# Around the lesson, from bottom to top: packages import only the lesson, themselves and earlier packages.
PACKAGES = ["kernels", "run", "evaluation", "weights_and_biases", "page", "how_low", "exercises", "cli"]
LIBRARIES_OF_THE_LESSON = {"torch", "numpy", "torchmetrics", "lightning"}
PRIVATE = ("run/lightning.py", "cli/")
PUBLIC_ALL_THE_SAME = {"os._exit"}

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


def test_modules_and_packages() -> None:
    assert {path.stem for path in SOURCE.glob("*.py")} - {"__init__"} == {*LESSON, *COMMANDS}
    assert {path.parent.name for path in SOURCE.glob("*/__init__.py")} == {*BELOW_THE_LESSON, *PACKAGES}


@pytest.mark.parametrize("module", LESSON)
def test_imports_of_the_lesson(module: str) -> None:
    below = {*LESSON[: LESSON.index(module)], *BELOW_THE_LESSON}
    for name in imports(SOURCE / f"{module}.py"):
        library, *parts = name.split(".")
        is_allowed = parts[0] in below if library == "timemachine" else library in LIBRARIES_OF_THE_LESSON
        assert is_allowed or library in sys.stdlib_module_names, f"{module} imports {name}"


@pytest.mark.parametrize("package", [*BELOW_THE_LESSON, *PACKAGES])
def test_imports_point_down(package: str) -> None:
    below = {"errors", "config", package}
    if package in PACKAGES:
        below |= {*LESSON, *BELOW_THE_LESSON, *PACKAGES[: PACKAGES.index(package)]}
    commands = {"page/__main__.py"}
    for path in (SOURCE / package).rglob("*.py"):
        found = {room(file).removesuffix(".py").split("/")[0] for file in our_files(path)}
        assert found <= below or room(path) in commands, f"{room(path)} imports {sorted(found - below)}"


def test_no_import_cycles() -> None:
    imported = {path: our_files(path) - {path} for path in FILES}
    while outside := [
        path
        for path, others in imported.items()
        if not others & imported.keys() or not any(path in others for others in imported.values())
    ]:
        imported = {path: others for path, others in imported.items() if path not in outside}
    assert not imported, sorted(map(room, imported))


@pytest.mark.slow
def test_imports_of_the_books_run(program: Program, tmp_path: Path) -> None:
    (tmp_path / "show.py").write_text(
        "import runpy, sys\n"
        f"runpy.run_path({str(REPOSITORY / 'train.py')!r}, run_name='__main__')\n"
        "print(*(name for name in sys.modules if name.startswith('timemachine')))\n"
    )
    done = program(str(tmp_path / "show.py"), "data=sample", "logger=csv", "trainer.max_steps=1")
    imported = done.stdout.splitlines()[-1]
    assert "timemachine.language_model" in imported, done.stdout + done.stderr
    assert "how_low" not in imported and "run.load" not in imported


def test_only_cli_imports_hydra() -> None:
    for path in FILES:
        if not room(path).startswith("cli/"):
            found = [name for name in imports(path) if name.split(".")[0] in ("hydra", "omegaconf")]
            assert not found, f"{room(path)} imports {found}"


def test_names_of_tests() -> None:
    """Names have at most six words after `test_`."""
    names = [
        (path, node.name)
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    long = [f"{path.relative_to(REPOSITORY)}: {name}" for path, name in names if len(name.split("_")) > 7]
    assert not long, "\n".join(sorted(long))


def private_names(path: Path) -> set[str]:
    """Return names with a leading underscore that belong to another library's module or object."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    own = {node.attr for node in attributes if ast.unparse(node.value) in ("self", "cls")}
    own |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    imported = {name for name in imports(path) if re.search(r"(^|\.)_(?!_)", name)}
    used = {ast.unparse(node) for node in attributes if re.match("_(?!_)", node.attr) and node.attr not in own}
    return imported | used - PUBLIC_ALL_THE_SAME


def test_private_names_of_other_libraries() -> None:
    for path in FILES:
        if names := private_names(path):
            assert room(path).startswith(PRIVATE), f"{room(path)}: {sorted(names)}"
            assert re.search(r"[Tt]ested with [\w -]+ \d+\.\d+", path.read_text(encoding="utf-8")), room(path)


@pytest.mark.slow
def test_files_until_the_first_gradient(program: Program) -> None:
    printed = program("-m", "tests.reader").stdout
    counted = re.search(r"(\d+)  lines in (\d+) files", printed)
    assert counted, printed
    assert int(counted[1]) <= 900 and int(counted[2]) <= 9

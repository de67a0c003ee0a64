"""The house rules: what each room may import, and where names that other libraries keep to themselves may stand."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import Program
from timemachine.config import REPOSITORY

SOURCE = REPOSITORY / "src/timemachine"
# In the order in which data flows: each imports only from those before it.
LESSON = ["errors", "config", "corpus", "vocab", "datamodule", "rnn", "clipping", "perplexity", "language_model",
          "decoding"]  # fmt: skip
COMMANDS = ["report", "dashboard"]
PACKAGES = {
    "kernels", "texts", "beyond", "training", "runs", "cli", "evaluation", "weights_and_biases", "page", "exercises",
}  # fmt: skip
OF_THE_LESSON = {"torch", "numpy", "torchmetrics", "lightning", "timemachine"}
PRIVATE = ["training/lightning.py", "cli/", "../hydra_plugins/", "weights_and_biases/"]
PUBLIC_ALL_THE_SAME = {"os._exit"}

FILES = sorted([*SOURCE.rglob("*.py"), *(REPOSITORY / "src/hydra_plugins").rglob("*.py")])


def imports(path: Path) -> Iterator[str]:
    """Full names of what a file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path: Path) -> str:
    """Path as seen from the package."""
    relative = path.relative_to(SOURCE) if path.is_relative_to(SOURCE) else path.relative_to(SOURCE.parent)
    return str(relative) if path.is_relative_to(SOURCE) else f"../{relative}"


def test_the_root_is_the_lesson_and_nothing_else() -> None:
    found = {path.stem for path in SOURCE.glob("*.py")} - {"__init__"}
    assert found == {*LESSON, *COMMANDS}
    assert {path.name for path in SOURCE.iterdir() if path.is_dir()} - {"__pycache__"} == PACKAGES


@pytest.mark.parametrize("module", LESSON)
def test_the_lesson_knows_nothing_of_what_surrounds_it(module: str) -> None:
    below = {*LESSON[: LESSON.index(module)], "kernels", "texts"}
    for name in imports(SOURCE / f"{module}.py"):
        library, *parts = name.split(".")
        if library == "timemachine":
            assert parts[0] in below, f"{module} imports {name}"
        else:
            assert library in OF_THE_LESSON or library in sys.stdlib_module_names, f"{module} imports {name}"


def test_only_what_deals_with_the_command_line_and_folders_imports_hydra() -> None:
    allowed = ("cli/", "runs/", "../hydra_plugins/", *(f"{name}.py" for name in COMMANDS))
    for path in FILES:
        if not room(path).startswith(allowed):
            found = [name for name in imports(path) if name.split(".")[0] in ("hydra", "omegaconf")]
            assert not found, f"{room(path)} imports {found}"


@pytest.mark.parametrize("package", ["kernels", "texts"])
def test_what_the_lesson_imports_knows_nothing_of_it(package: str) -> None:
    for path in (SOURCE / package).glob("*.py"):
        for name in imports(path):
            inside = name.startswith(("timemachine.errors", "timemachine.config", f"timemachine.{package}"))
            assert inside or not name.startswith("timemachine."), f"{room(path)} imports {name}"


def private_names(path: Path) -> Iterator[str]:
    """Names with a leading underscore that belong to another library's module or object."""
    tree = ast.parse(path.read_text())
    own = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and of_self(node)}
    own |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for name in imports(path):
        if any(part.startswith("_") and not part.startswith("__") for part in name.split(".")):
            yield name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            name = ast.unparse(node)
            if not of_self(node) and node.attr not in own and name not in PUBLIC_ALL_THE_SAME:
                yield name


def of_self(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def test_private_names_of_other_libraries_stand_in_few_places() -> None:
    found = {room(path): sorted(set(private_names(path))) for path in FILES}
    found = {place: names for place, names in found.items() if names}
    assert all(place.startswith(tuple(PRIVATE)) for place in found), found
    for place in found:  # each with the version that it was tested with
        text = (SOURCE / place).read_text()
        assert re.search(r"[Tt]ested with [\w -]+ \d+\.\d+", text), f"{place} does not say which version"


def test_text_is_utf_8_wherever_it_is_read_or_written() -> None:
    """Python's default is another one on Windows."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
                modes = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
                is_text = name in ("read_text", "write_text") or (
                    name == "open" and not any("b" in mode for mode in modes if isinstance(mode, str))
                )
                ours = ast.unparse(node.func) not in ("os.open", "webbrowser.open")
                named = "encoding" in [keyword.arg for keyword in node.keywords]
                assert named or not (is_text and ours), f"{room(path)}:{node.lineno}: {ast.unparse(node)}"


def test_what_is_patched_is_bounded_from_above() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(name for extra in project["optional-dependencies"].values() for name in extra)]
    for library in ("lightning", "hydra-core", "joblib", "rich", "submitit", "wandb-workspaces"):
        (spec,) = (requirement for requirement in asked if re.match(rf"{library}\b(?!-)", requirement))
        assert "<" in spec, spec


def test_everything_is_bounded_from_below() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    for requirements in (project["dependencies"], *project["optional-dependencies"].values()):
        for requirement in requirements:
            assert ">=" in requirement or requirement.startswith("timemachine["), requirement


@pytest.mark.slow
def test_a_reader_opens_nine_files_until_the_first_gradient(program: Program) -> None:
    printed = program("-m", "tests.reader").stdout
    counted = re.search(r"(\d+)  lines in (\d+) files", printed)
    assert counted, printed
    assert int(counted[1]) <= 950 and int(counted[2]) <= 9

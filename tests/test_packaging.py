"""The version; the sdist and the wheel, installed without `-e`; requirements.lock and uv.lock."""

import itertools
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import timemachine
from tests.support.programs import DDP, DEADLINE, Done, assert_succeeded
from tests.support.runs import table
from timemachine.config import REPOSITORY

PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINES = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
UV_LOCK = (REPOSITORY / "uv.lock").read_text(encoding="utf-8")
PACKAGES: list[dict[str, Any]] = tomllib.loads(UV_LOCK)["package"]
# With markers, since some packages have several versions.
PINNED = [Requirement(line.rstrip("\\")) for line in LINES if re.match(r"\w", line)]

COMPILER = next(filter(shutil.which, ("c++", "g++", "clang++")), None)


@dataclass
class Installed:
    """The sdist, the wheel that was built from it, and an environment in which this wheel is installed."""

    source: Path  # the unpacked sdist
    wheel: Path
    python: Path

    def run(self, *arguments: str, cwd: Path) -> Done:
        return subprocess.run([self.python, *arguments], cwd=cwd, capture_output=True, text=True, timeout=DEADLINE)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build and install as `python -m build` and `pip install` do, without a network.

    The environment has nothing else, but finds the packages of this one: not this project, which is installed here as
    an editable package, since Python ignores the .pth files of a folder that a .pth file names.
    """
    folder = tmp_path_factory.mktemp("packaging")
    hidden = shutil.ignore_patterns(".*", "*.so", "*.egg-info", "outputs", "sweeps", "build", "dist", "__pycache__")
    shutil.copytree(REPOSITORY, folder / "copy", ignore=hidden)

    def build(kind: str, source: Path) -> Path:
        code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(folder)!r}))"
        done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=True)
        return folder / done.stdout.splitlines()[-1]

    sdist = build("sdist", folder / "copy")
    with tarfile.open(sdist) as file:
        file.extractall(folder, filter="data")
    source = folder / sdist.name.removesuffix(".tar.gz")
    wheel = build("wheel", source)
    venv.create(folder / "environment", symlinks=True)
    python = folder / "environment/bin/python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "--no-index", "--no-deps", str(wheel)], check=True)
    (packages,) = (folder / "environment").glob("lib/python*/site-packages")
    packages.joinpath("others.pth").write_text(sysconfig.get_path("purelib"))
    return Installed(source, wheel, python)


@pytest.fixture
def programs(installed: Installed, tmp_path: Path) -> Path:
    """Return a folder with the programs and their settings, and nothing else."""
    shutil.copytree(installed.source / "conf", tmp_path / "programs/conf")
    for name in ("train.py", "evaluate.py", "generate.py"):
        shutil.copy(installed.source / name, tmp_path / "programs")
    return tmp_path / "programs"


def test_one_version() -> None:
    """In pyproject.toml; test_site.py has the site's. CHANGELOG.md and CITATION.cff also have its date."""
    version = PROJECT["version"]
    heading = re.search(r"^## (\S+), (\d{4}-\d\d-\d\d)$", (REPOSITORY / "CHANGELOG.md").read_text("utf-8"), re.M)
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text("utf-8"))
    assert heading and heading.groups() == (version, str(citation["date-released"]))
    assert citation["version"] == version
    assert [package["version"] for package in PACKAGES if package["name"] == PROJECT["name"]] == [version]


@pytest.mark.slow
def test_files_of_the_sdist_and_of_the_wheel(installed: Installed) -> None:
    """The sdist has the programs; the wheel the package alone, with its texts, its page and the compiled kernel."""

    def files(root: Path, *folders: str) -> set[str]:
        found = (path for folder in folders for path in (root / folder).rglob("*") if path.is_file())
        return {path.relative_to(root).as_posix() for path in found if path.suffix not in (".so", ".pyc")}

    assert files(installed.source, "conf", "src/timemachine") == files(REPOSITORY, "conf", "src/timemachine")
    others = {path.name for path in installed.source.iterdir()}
    assert others >= {"train.py", "evaluate.py", "generate.py", "LICENSE", "README.md", "CHANGELOG.md"}
    assert not others & {"tests", "tools", "docs"}
    with zipfile.ZipFile(installed.wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    compiled = {"timemachine/kernels/_fused.so"} if COMPILER else set()
    assert names == files(installed.source / "src", "timemachine") | compiled
    assert {"timemachine/texts/sample.txt", "timemachine/page/kernel.wasm", "timemachine/kernels/fused.cpp"} < names


@pytest.mark.slow
def test_readme_against_train_py_with_the_wheel(installed: Installed, programs: Path, tmp_path: Path) -> None:
    """Two epochs of README's lines from Python and of train.py give the same bits, in a folder without src/.

    Python prints enough digits of a float to restore it.
    """
    example = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text("utf-8"), re.DOTALL)[0]
    small = example.replace("max_epochs=100", "max_epochs=2, enable_progress_bar=False")
    assert small != example and "seed_everything(0)" in small
    names = ("train/perplexity", "val/perplexity")
    small += f"""
print(*(float(trainer.callback_metrics[name]) for name in {names}))
from importlib.metadata import version
from timemachine import kernels, load_run, load_sweep
print(version("timemachine"), kernels.is_compiled(), kernels.__file__)
"""
    done = installed.run("-c", small, cwd=tmp_path)
    assert_succeeded(done)
    sample, ours, where = done.stdout.splitlines()[-3:]
    version, is_compiled, file = where.split()
    assert version == PROJECT["version"] and is_compiled == str(bool(COMPILER))
    assert Path(file).is_relative_to(installed.python.parents[1])
    short = ("trainer.max_epochs=2", "trainer.limit_test_batches=0", "hydra.run.dir=run")
    assert_succeeded(installed.run("train.py", *short, cwd=programs))
    last = table(programs / "run/metrics.csv")[-1]
    assert ours.split() == [last[name] for name in names]
    assert sample == (programs / "run/sample.txt").read_text().rstrip("\n") and sample.startswith("it has")


@pytest.mark.slow
def test_programs_with_the_wheel(installed: Installed, programs: Path, tmp_path: Path) -> None:
    """From any folder, and without the answers of sweeps/reference. A DDP job is a child program."""
    small = ("data.corpus=sample", "data.num_train=200", "data.num_val=100", "trainer.max_epochs=1")
    sweep = ("-m", *DDP, *small, "hydra.sweep.dir=sweep")
    for command in (("train.py", *sweep), ("evaluate.py", "run=sweep/0"), ("generate.py", "run=sweep/0")):
        name, *arguments = command
        assert_succeeded(installed.run(str(programs / name), *arguments, cwd=tmp_path))
    assert_succeeded(installed.run("-m", "timemachine", "report", "sweep", cwd=tmp_path))


@pytest.mark.parametrize(("program", "folder"), [(REPOSITORY / "train.py", "/"), ("-c", REPOSITORY)])
def test_repository_of_an_installed_package(program: Path | str, folder: Path | str, tmp_path: Path) -> None:
    """The folder of the program; in a notebook, the working directory."""
    for name in ("__init__", "config", "errors"):
        (tmp_path / "timemachine").mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / f"src/timemachine/{name}.py", tmp_path / "timemachine")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = [{str(program)!r}]; "
    code += "from timemachine.config import REPOSITORY; print(REPOSITORY)"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(REPOSITORY)


# The locks, which `make lock` writes


def test_lock_pins_each_dependency() -> None:
    """On each Python, with the hashes of its files, but for torch, whose version is in uv.lock."""
    pythons = re.findall(r":: Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    for python, requirement in itertools.product(pythons, map(Requirement, PROJECT["dependencies"])):
        here = {"python_version": python, "python_full_version": f"{python}.0"}
        if requirement.name == "torch" or (requirement.marker and not requirement.marker.evaluate(here)):
            continue
        name = canonicalize_name(requirement.name)
        (pin,) = (each for each in PINNED if each.name == name and (not each.marker or each.marker.evaluate(here)))
        (version,) = (each.version for each in pin.specifier)
        assert requirement.specifier.contains(version, prereleases=True), (python, requirement)
    each = "\n".join(LINES[1:]).replace("\\\n", "").splitlines()
    assert len(each) > 100 and all("--hash=sha256:" in line for line in each)


def test_uv_lock() -> None:
    """uv.lock has the versions of requirements.lock and the bounds of pyproject.toml, and names only PyPI."""
    versions = {(package["name"], package.get("version")) for package in PACKAGES}
    assert versions > {(pin.name, each.version) for pin in PINNED for each in pin.specifier}
    (ours,) = (package for package in PACKAGES if package["name"] == PROJECT["name"])
    locked = {
        (entry["name"], SpecifierSet(entry.get("specifier", "")), entry.get("marker", ""))
        for entry in ours["metadata"]["requires-dist"]
    }
    bounds = set()
    for extra, requirements in {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}.items():
        for each in map(Requirement, requirements):
            python = str(each.marker or "").replace("python_version", "python_full_version").replace('"', "'")
            marker = " and ".join(filter(None, [python, extra and f"extra == '{extra}'"]))
            bounds.add((canonicalize_name(each.name), each.specifier, marker))
    assert locked == bounds, "run make lock"
    assert set(re.findall(r'"https?://([^/"]+)', UV_LOCK)) == {"pypi.org", "files.pythonhosted.org"}


def test_names_of_the_package_are_lazy() -> None:
    code = (
        "import sys, timemachine; assert not {'torch', 'numpy', 'lightning'} & {*sys.modules}; print(dir(timemachine))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(name in done.stdout and hasattr(timemachine, name) for name in timemachine.MODULES)
    with pytest.raises(AttributeError):
        _ = timemachine.nothing

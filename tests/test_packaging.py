"""The package without `-e`: the sdist, and the programs with the wheel; requirements.lock and uv.lock."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import timemachine
from tests.support.programs import DDP, Program, assert_succeeded
from timemachine.config import REPOSITORY

PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LINES = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
UV_LOCK = (REPOSITORY / "uv.lock").read_text(encoding="utf-8")
PACKAGES: list[dict[str, Any]] = tomllib.loads(UV_LOCK)["package"]
PINNED = {canonicalize_name(name): version for name, version in re.findall(r"^(\S+)==(\S+)", "\n".join(LINES), re.M)}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the sdist and the wheel. They lack the kernel, whose compilation takes longer."""
    copy = tmp_path_factory.mktemp("packaging") / "copy"
    hidden = shutil.ignore_patterns(".*", "*.so", "*.egg-info", "outputs", "tests", "sweeps", "build", "dist")
    shutil.copytree(REPOSITORY, copy, ignore=hidden)
    code = "from setuptools import build_meta; build_meta.build_sdist('dist'); build_meta.build_wheel('dist')"
    environment = {"PATH": "", "CXX": "no-compiler"}
    subprocess.run([sys.executable, "-c", code], cwd=copy, env=environment, capture_output=True, check=True)
    return copy / "dist"


@pytest.mark.slow
def test_sdist_has_the_programs(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    settings = {path.relative_to(REPOSITORY).as_posix() for path in REPOSITORY.glob("conf/**/*.yaml")}
    assert names >= settings | {"train.py", "evaluate.py", "generate.py", "src/timemachine/kernels/fused.cpp"}
    assert names >= {f"src/timemachine/page/kernel.{kind}" for kind in ("cpp", "wasm")}


@pytest.mark.slow
def test_programs_with_the_wheel(dist: Path, tmp_path: Path, program: Program) -> None:
    """From any folder. The child program of a DDP job is the train.py that started the sweep."""
    (wheel,) = dist.glob("timemachine-*-py3-none-*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    path = str(tmp_path / "site")
    small = ("data.corpus=sample", "data.num_train=200", "data.num_val=100", "trainer.max_epochs=1", "logger=csv")
    assert_succeeded(program("train.py", "-m", *DDP, *small, "hydra.sweep.dir=sweep", PYTHONPATH=path))
    for name in ("evaluate.py", "generate.py"):
        assert_succeeded(program(name, "run=sweep/0", PYTHONPATH=path))


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
    """With the hashes of its files, but for torch, whose version is in uv.lock."""
    for requirement in map(Requirement, PROJECT["dependencies"]):
        version = PINNED.get(canonicalize_name(requirement.name))
        assert requirement.name == "torch" or requirement.specifier.contains(str(version)), requirement
    each = "\n".join(LINES[1:]).replace("\\\n", "").splitlines()
    assert len(each) > 100 and all("--hash=sha256:" in line for line in each)


def test_uv_lock() -> None:
    """uv.lock has the versions of requirements.lock and the bounds of pyproject.toml, and names only PyPI."""
    versions = {(package["name"], package.get("version")) for package in PACKAGES}
    assert versions > {*PINNED.items()}
    (ours,) = (package for package in PACKAGES if package["name"] == PROJECT["name"])
    locked = {
        (entry["name"], SpecifierSet(entry.get("specifier", "")), entry.get("marker"))
        for entry in ours["metadata"]["requires-dist"]
    }
    bounds = set()
    for extra, requirements in {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}.items():
        marker = f"extra == '{extra}'" if extra else None
        bounds |= {(canonicalize_name(r.name), r.specifier, marker) for r in map(Requirement, requirements)}
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

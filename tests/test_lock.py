"""requirements.lock and uv.lock, written by `make lock`, pin each dependency of pyproject.toml within its bounds."""

import re
import tomllib
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from timemachine.config import REPOSITORY


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    loaded: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return loaded


@pytest.fixture(scope="module")
def pinned() -> dict[str, str]:
    lines = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def test_lock_pins_each_dependency(project: dict[str, Any], pinned: dict[str, str]) -> None:
    for requirement in map(Requirement, project["dependencies"]):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_uv_lock(project: dict[str, Any], pinned: dict[str, str]) -> None:
    """uv.lock has the versions of requirements.lock and the bounds of pyproject.toml, and names only PyPI."""
    text = (REPOSITORY / "uv.lock").read_text(encoding="utf-8")
    packages = tomllib.loads(text)["package"]
    versions = {(package["name"], package.get("version")) for package in packages}
    for requirement in map(Requirement, project["dependencies"]):
        assert (name := canonicalize_name(requirement.name), pinned[name]) in versions, requirement
    (ours,) = (package for package in packages if package["name"] == project["name"])
    locked = {
        (entry["name"], SpecifierSet(entry.get("specifier", "")), entry.get("marker"))
        for entry in ours["metadata"]["requires-dist"]
    }
    bounds = set()
    for extra, requirements in {"": project["dependencies"], **project["optional-dependencies"]}.items():
        marker = f"extra == '{extra}'" if extra else None
        bounds |= {(canonicalize_name(r.name), r.specifier, marker) for r in map(Requirement, requirements)}
    assert locked == bounds, "run make lock"
    assert set(re.findall(r'"https?://([^/"]+)', text)) == {"pypi.org", "files.pythonhosted.org"}

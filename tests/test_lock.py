"""requirements.lock, written by `make lock`, pins each dependency of pyproject.toml within its bounds."""

import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from timemachine.config import REPOSITORY


def test_lock_pins_each_dependency() -> None:
    lines = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pinned = [line.split("==") for line in lines if not line.startswith("#")]
    locked = {canonicalize_name(name): version for name, version in pinned}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in map(Requirement, project["dependencies"]):
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), requirement

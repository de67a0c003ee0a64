"""requirements.lock: the versions that made README's numbers. `python -m tests.support.lock` writes it anew."""

import tomllib
from importlib.metadata import requires, version

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from timemachine.config import REPOSITORY

LOCK = REPOSITORY / "requirements.lock"
HEADER = """\
# The versions that made the numbers in README.md: `make train LOCKED=1` takes them. Written by `make lock`.
# torch stands without its build: 2.13.0 is met by 2.13.0+cpu, which made the numbers, as by a build for CUDA, whose
# own libraries are left to pip. These are constraints, so what a platform lacks or adds is no mistake.
"""


def dependencies() -> list[Requirement]:
    """Return what pyproject.toml asks for, without its extras."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(text) for text in project["dependencies"]]


def needed(versions: dict[str, str] | None = None) -> dict[str, list[Requirement]]:
    """Return what pyproject.toml asks for, and what that asks for in turn, here, without CUDA's libraries.

    With `versions`, what a package here in another version asks for is left out.
    """
    found: dict[str, list[Requirement]] = {}
    seen: set[tuple[str, str]] = set()  # name, extra
    queue = dependencies()
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        if name.startswith(("nvidia-", "cuda-", "triton")):
            continue
        found.setdefault(name, []).append(requirement)
        extras = {extra for extra in ("", *requirement.extras) if (name, extra) not in seen}
        seen |= {(name, extra) for extra in extras}
        if versions is None or versions.get(name) == here(name):
            for more in map(Requirement, requires(name) or []):
                if any(more.marker is None or more.marker.evaluate({"extra": extra}) for extra in extras):
                    queue.append(more)
    return found


def here(name: str) -> str:
    """Return the version of a package in this environment, without its build."""
    return Version(version(name)).public


def locked() -> dict[str, str]:
    """Return the names and versions in requirements.lock."""
    lines = [line for line in LOCK.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return dict(line.split("==") for line in lines)


if __name__ == "__main__":
    LOCK.write_text(HEADER + "".join(f"{name}=={here(name)}\n" for name in sorted(needed())), encoding="utf-8")

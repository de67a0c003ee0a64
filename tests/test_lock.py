"""requirements.lock fits pyproject.toml and is whole; `make` takes it where it is asked for."""

import subprocess
import sys

from packaging.utils import canonicalize_name

from tests.support.lock import dependencies, locked, needed
from timemachine.config import REPOSITORY


def test_each_dependency_is_locked_within_its_bounds() -> None:
    for requirement in dependencies():
        number = locked()[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(number), f"{requirement}: {number} is locked"


def test_locked_versions_are_whole_and_fit_each_other() -> None:
    for name, requirements in needed(locked()).items():
        for requirement in requirements:
            assert requirement.specifier.contains(locked()[name], prereleases=True), f"{requirement}: {locked()[name]}"


def test_locked_versions_are_taken_where_they_are_asked_for() -> None:
    def make(*arguments: str) -> str:
        newer = ["make", f"PYTHON={sys.executable}", "--dry-run", "--what-if=pyproject.toml", "train", *arguments]
        return subprocess.run(newer, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout

    assert "--constraint requirements.lock --editable .\n" in make("LOCKED=1")
    assert "--constraint" not in make()

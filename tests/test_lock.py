"""requirements.lock fits pyproject.toml, and is whole."""

import re

from packaging.utils import canonicalize_name

from tests.support.lock import LOCK, dependencies, locked, needed


def test_each_dependency_is_locked_within_its_bounds() -> None:
    for requirement in dependencies():
        number = locked()[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(number), f"{requirement}: {number} is locked"


def test_locked_versions_are_whole_and_fit_each_other() -> None:
    for name, requirements in needed(locked()).items():
        for requirement in requirements:
            assert requirement.specifier.contains(locked()[name], prereleases=True), f"{requirement}: {locked()[name]}"


def test_lock_has_names_and_versions_and_nothing_else() -> None:
    lines = [line for line in LOCK.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==\d+(\.\w+)*", line) for line in lines), lines
    assert list(locked()) == sorted(locked())

"""requirements.lock fits pyproject.toml, and is whole."""

from packaging.utils import canonicalize_name

from tests.support.lock import dependencies, locked, needed


def test_each_dependency_is_locked_within_its_bounds() -> None:
    for requirement in dependencies():
        number = locked()[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(number), f"{requirement}: {number} is locked"


def test_locked_versions_are_whole_and_fit_each_other() -> None:
    for name, requirements in needed(locked()).items():
        for requirement in requirements:
            assert requirement.specifier.contains(locked()[name], prereleases=True), f"{requirement}: {locked()[name]}"

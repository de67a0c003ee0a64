"""What `make` prints of itself, and which versions it takes."""

import re
import subprocess
import sys

from timemachine.config import REPOSITORY

MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
TARGETS = re.findall(r"[\w-]+", MAKEFILE.partition(".PHONY:")[2].partition("\n")[0])


def make(*arguments: str) -> str:
    command = ["make", f"PYTHON={sys.executable}", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout


def test_make_alone_lists_what_it_can_do() -> None:
    listed = re.findall(r"^make ([\w-]+) +\w", make(), re.MULTILINE)
    assert sorted(listed) == sorted(set(TARGETS) - {"help"})
    assert "LOCKED=1" in make()


def test_locked_versions_are_taken_where_they_are_asked_for() -> None:
    newer = ["--dry-run", "--what-if=pyproject.toml", "train"]
    assert "--constraint requirements.lock --editable .\n" in make(*newer, "LOCKED=1")
    assert "--constraint" not in make(*newer)

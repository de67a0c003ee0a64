"""The Markdown pages, and the commands that they print."""

import re
from collections.abc import Iterator

from timemachine.config import REPOSITORY

FILES = [file for folder in (".", "docs") for file in sorted((REPOSITORY / folder).glob("*.md"))]
PAGES = {file.relative_to(REPOSITORY).as_posix(): file.read_text(encoding="utf-8") for file in FILES}
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
PROGRAMS = r"(?:\.venv/bin/)?python|apt-get|git|jupyter|make|pip|pre-commit|pytest|sha256sum|tensorboard|uv|wandb"
INLINE = re.compile(rf"`((?:{PROGRAMS})\s[^`]+|tools/\w+(?:/\w+)?|\.ci/run)`")
PLACES = {  # what a reader fills in -> what is there when a test runs the command
    "exercise=NAME": "exercise=sampling",
    "<its folder>": "sweeps/width",
    "outputs/<a run>": "outputs/run",
    "outputs/<another>": "outputs/run",
    "outputs/…": "outputs/run",
    "sweeps/…": "sweeps/width",
    "run=…": "run=outputs/run",
}


def commands(page: str) -> Iterator[str]:
    """Yield the commands of a page: in blocks of bash, in comments of blocks of Python, and inline."""
    for language, block in BLOCK.findall(PAGES[page]):
        if language == "bash":
            lines = re.sub(r"\s*\\\n\s*", " ", block).splitlines()  # a backslash joins two lines
            yield from (line.partition("  #")[0].strip() for line in lines if line and not line.startswith("#"))
        elif language == "python":
            yield from re.findall(r"^# .*(python .+)$", block, re.MULTILINE)
    yield from (" ".join(command.split()) for command in INLINE.findall(BLOCK.sub("", PAGES[page])))


def filled_in(command: str) -> str:
    """Return a command with `PLACES`."""
    for place, found in PLACES.items():
        command = command.replace(place, found)
    return command
